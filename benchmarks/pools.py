"""How many first items of histories a pool of candidates reaches: CCG's, title neighbours', both joined.

    python benchmarks/pools.py --data FOLDER [--dataset yelp_s3rec] [--size 20]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. The reverse model keeps the first items of a tenth of the
users out of its training; these are looked for in pools for the rest of those users' training histories. No validation
or test item is read. The model is kept, so a second call only ranks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dumps
import numpy as np
import pyarrow.parquet as pq

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import POOL_SOURCES
from llmser_tasks.core.progress import silent
from llmser_tasks.core.run import Run
from llmser_tasks.methods.held_out import HELD, split_last
from llmser_tasks.methods.llmser import parts, reverse
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import Pools, interleaved
from llmser_tasks.texts import item_vectors

SHORT = 3  # items of a history, the hidden one included


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--size", type=int, default=20)
    arguments = parser.parse_args()
    store, made = dumps.cut(arguments.data, arguments.dataset)
    config = environment.configuration(dumps.values(arguments.data, arguments.dataset))
    run, refs = Run("pools", config, store, Warehouse("")), {name: one.reference() for name, one in made.items()}
    for step in (item_vectors, reverse):
        refs[step.STEP] = step.make(run, refs).reference()

    histories = Histories.of_run(run, refs)
    held = np.isin(histories.users, pq.read_table(run.folder(refs, parts.REVERSE) / HELD)["user"].to_numpy())
    _, hidden = split_last(histories.reverse(), held)
    rest, short = hidden.contexts.reverse(), hidden.contexts.lengths < SHORT
    pools: dict[str, Pools] = {
        name: POOL_SOURCES.load(name).propose(run, refs, rest, arguments.size, silent) for name in POOL_SOURCES
    }
    pools[",".join(POOL_SOURCES)] = interleaved(list(pools.values()), arguments.size)
    usual = _reached(pools[POOL_SOURCES.default], hidden.targets)
    print(f"{arguments.dataset}, {len(rest):,} hidden first items, {arguments.size} candidates\n")
    print(f"| pool_from | all | histories up to {SHORT} | longer | not in the usual pool |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pool in pools.items():
        found = _reached(pool, hidden.targets)
        shares = (found.mean(), found[short].mean(), found[~short].mean(), (found & ~usual).mean())
        print(f"| {name} | " + " | ".join(f"{share:.4f}" for share in shares) + " |")


def _reached(pool: Pools, targets: np.ndarray) -> np.ndarray:
    """(U,) whether each user's target is in the pool."""
    return np.asarray((pool[0] == targets[:, None]).any(axis=1))


if __name__ == "__main__":
    main()
