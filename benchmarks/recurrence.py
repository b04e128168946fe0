"""GRU4Rec's recurrence in loops over rows against torch's over steps: CPU milliseconds of both directions.

    python benchmarks/recurrence.py [--rounds 9]

Batches like those of a training: 256 rows of 6 tokens in the mean, and 64 rows of 40. One thread; the two take turns,
the figures are medians.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders.backbones.gru4rec import GRU4Rec
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.load import make_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(42)
    print("| width | rows | tokens | ours | torch | times faster |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for width in (32, 64, 128, 256):
        model = make_model(Recommender(backbone="gru4rec", dimension=width, dropout=0.0), 1)
        assert isinstance(model, GRU4Rec)
        for rows, mean in ((256, 6), (64, 40)):
            lengths = np.minimum(1 + random.geometric(1 / (mean - 1), rows), 200)
            layout = Layout.back_to_back(torch.from_numpy(lengths))
            x = torch.randn(len(layout.owner), width, requires_grad=True)
            seconds = np.zeros((arguments.rounds + 1, 2))
            for line in seconds:  # the first compiles
                for way, recur in enumerate((model.row_by_row, model.step_by_step)):
                    started = time.process_time()
                    recur(x, layout).sum().backward()
                    line[way] = time.process_time() - started
            ours, theirs = 1000 * np.median(seconds[1:], axis=0)
            cells = f"{ours:.1f} | {theirs:.1f} | {theirs / ours:.1f}"
            print(f"| {width} | {rows} | {lengths.sum()} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
