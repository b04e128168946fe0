"""What Dual-Channel Training costs beside ordinary training, against its share of tokens.

    python benchmarks/channels.py [--users 20000] [--rounds 3] [--pseudo-targets]

Synthetic histories as in `scaling.py`, of 7 items in the mean as Beauty's training part, with M pseudo items of the
same distribution in front and α = ½. Base and DCT train in turn, an epoch each a round after one that warms up, on one
thread; the figure is the median of the rounds' ratios. The bound is (|S| + |S̃|) / |S| with 10 % on top, in tokens
that a model is shown. Pseudo items are context and have no loss of their own, or with --pseudo-targets they have.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from scaling import NOBODY, Point, synthetic

from llmser_tasks.core.config import Augmentation, Recommender
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import WeightedTerm, train
from llmser_tasks.sequences.histories import Histories

ITEMS = 12_000
LOSSES: tuple[str, ...] = ("bce", "sampled-softmax")
PSEUDO = Augmentation().pseudo_items


def enhance(histories: Histories) -> Histories:
    """PSEUDO items, drawn as popular as they are in the histories, before everyone's first."""
    random = np.random.default_rng(43)
    before = np.arange(len(histories) + 1) * PSEUDO
    drawn = random.choice(histories.items, before[-1])
    return Histories(histories.users, before, drawn).then(histories)


def shown(histories: Histories, config: Recommender) -> int:
    """Tokens that a causal model is shown: each history but its last item."""
    return int(np.minimum(histories.lengths - 1, config.max_length).sum())


def epoch(config: Recommender, histories: Histories, enhanced: Histories | None, pseudo_targets: bool) -> float:
    """CPU seconds of the second of two epochs."""
    terms = [WeightedTerm(histories)]
    if enhanced is not None:
        users = len(histories)
        terms = dual_channel(
            histories, enhanced, np.full(users, 0.5), None if pseudo_targets else np.full(users, PSEUDO)
        )
    clock: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        train(
            config,
            terms,
            ITEMS,
            42,
            Path(scratch),
            watch=NOBODY,
            progress=lambda *_, **__: clock.append(time.process_time()),
        )
    return clock[1] - clock[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pseudo-targets", action="store_true")
    arguments = parser.parse_args()
    os.environ["LLMSER_THREADS"] = "1"
    histories = synthetic(Point(users=arguments.users, items=ITEMS, length=7))
    enhanced = enhance(histories)
    print("| backbone | loss | base epoch, CPU s | DCT epoch, CPU s | ratio (range) | bound |")
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for backbone in BACKBONES:
        for loss in LOSSES:
            config = Recommender(backbone=backbone, loss=loss, epochs=2)
            bound = 1.1 * (1 + shown(enhanced, config) / shown(histories, config))
            seconds = [
                [epoch(config, histories, sequences, arguments.pseudo_targets) for sequences in (None, enhanced)]
                for _ in range(arguments.rounds)
            ]
            base, dual = np.median(seconds, axis=0)
            ratios = np.array([after / before for before, after in seconds])
            cells = f"{base:.2f} | {dual:.2f} | {np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})"
            print(f"| {backbone} | {loss} | {cells} | {bound:.2f} |", flush=True)


if __name__ == "__main__":
    main()
