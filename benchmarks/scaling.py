"""What training and ranking cost as users, items and lengths grow, and where the memory goes.

    python benchmarks/scaling.py [--curve users,items,lengths,dense,largest] [--loss sampled-softmax] [--most 1000000]

Synthetic histories: lengths are geometric, items Zipf. Every point runs in a process of its own with one thread: whole
epochs through `train` (batches, steps, checkpoint), then the rank of one target a user among all items and everyone's
top 10. CPU seconds are the process's, memory is its peak resident set in each phase, less what Python and torch take.

`dense` repeats the items' curve with ordinary Adam, which moves every item in every step; `largest` ranks a million
users × a hundred thousand items.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, top_k, train
from llmser_tasks.recommenders.items import table
from llmser_tasks.recommenders.kernels import gather
from llmser_tasks.sequences.histories import Histories

MIB = 1 << 20
NOBODY = Watch(Histories.of([], []), np.zeros(0, np.int32), Histories.of([], []))
LARGE = 200_000  # users, of which one epoch is measured instead of the median of several


@dataclass(frozen=True)
class Point:
    """`length` is the mean; `train` false leaves training at a single batch."""

    users: int = 10_000
    items: int = 10_000
    length: int = 8
    loss: str = "sampled-softmax"
    dense: bool = False
    train: bool = True


@dataclass(frozen=True)
class Cost:
    """CPU seconds: of an epoch, of 1,000 users' ranks, of 1,000 users' top 10; peak MiB: training, ranking."""

    epoch: float
    ranks: float
    top: float
    interactions: int
    data_mib: float
    training_mib: float
    ranking_mib: float


def curves(most: int) -> dict[str, list[Point]]:
    powers = [n for n in (10**3, 10**4, 10**5, 10**6) if n <= most]
    return {
        "users": [Point(users=n) for n in powers],
        "items": [Point(items=n) for n in powers],
        "dense": [Point(items=n, dense=True) for n in powers],
        "lengths": [Point(length=n) for n in (4, 8, 16, 32, 64, 128)],
        "largest": [Point(users=min(10**6, most), items=min(10**5, most), train=False)],
    }


# One point, in its own process ---------------------------------------------------------------------------------------


def peak() -> float:
    """Peak resident MiB since the last `forget_peak`."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) * 1024 / MIB


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def synthetic(point: Point) -> Histories:
    """Seeded; two items or more a user."""
    random = np.random.default_rng(42)
    lengths = 1 + random.geometric(1 / (point.length - 1), point.users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.cumsum(1 / np.arange(1, point.items + 1))
    drawn = np.searchsorted(ends / ends[-1], random.random(offsets[-1], np.float32)).clip(max=point.items - 1)
    numbers = random.permutation(point.items).astype(np.int32) + 1  # popular items are not the first ones
    return Histories(np.arange(1, point.users + 1, dtype=np.int32), offsets, numbers[drawn])


def ordinary_adam() -> None:
    """Give the item table a dense gradient, so that every item moves in every step."""
    mock.patch.object(table, "pick_distinct", gather.pick).start()


def measure(point: Point) -> Cost:
    if point.dense:
        ordinary_adam()
    config = Recommender(loss=point.loss, epochs=1 if point.users > LARGE else 4, max_length=200)
    torch.rand(256, 256) @ torch.rand(256, 256)  # what torch allocates once
    empty = peak()
    histories = synthetic(point)
    data_mib = peak() - empty
    clock = [time.process_time()]
    forget_peak()
    with tempfile.TemporaryDirectory() as scratch:
        learned = histories if point.train else histories.select(np.arange(128))
        train(
            config,
            [WeightedTerm(learned)],
            point.items,
            42,
            Path(scratch),
            watch=NOBODY,
            progress=lambda *_, **__: clock.append(time.process_time()),
        )
        training_mib = peak() - empty
        model = load(Path(scratch))
    seconds = np.diff(clock)
    forget_peak()
    contexts, targets = histories.drop_last(), histories.last()
    started = time.process_time()
    ranks(model, contexts, targets, contexts)
    ranked = time.process_time()
    top_k(model, contexts, 10, contexts)
    done = time.process_time()
    thousands = point.users / 1000
    return Cost(
        epoch=float(np.median(seconds[1:] if len(seconds) > 1 else seconds)),
        ranks=(ranked - started) / thousands,
        top=(done - ranked) / thousands,
        interactions=len(histories.items),
        data_mib=data_mib,
        training_mib=training_mib,
        ranking_mib=peak() - empty,
    )


# The tables ----------------------------------------------------------------------------------------------------------

HEAD = (
    "users | items | mean length | epoch, CPU s | µs per interaction | ranks, CPU s per 1,000 users"
    " | top 10, CPU s per 1,000 | data, MiB | training, MiB | of it table and Adam | ranking, MiB"
)


def show(point: Point) -> None:
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LLMSER_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | one_thread, encoding="utf-8")
    cost = Cost(**json.loads(done.stdout))
    table = (point.items + 1) * Recommender().dimension * 4 / MIB
    cells = [
        f"{point.users:,}",
        f"{point.items:,}",
        str(point.length),
        f"{cost.epoch:.2f}" if point.train else "–",
        f"{cost.epoch / cost.interactions * 1e6:.1f}" if point.train else "–",
        f"{cost.ranks:.2f}",
        f"{cost.top:.2f}",
        f"{cost.data_mib:.0f}",
        f"{cost.training_mib:.0f}" if point.train else "–",
        f"{(4 if point.dense else 3) * table:.0f}",  # weights, two moments, and a gradient where it is dense
        f"{cost.ranking_mib:.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curve", default="users,items,dense,lengths,largest")
    parser.add_argument("--loss", default="sampled-softmax")
    parser.add_argument("--most", type=int, default=10**6)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(asdict(measure(Point(**json.loads(arguments.point))))))
        return
    every = curves(arguments.most)
    for name in arguments.curve.split(","):
        print(f"\n{name}, {arguments.loss}\n\n| {HEAD} |\n|" + " ---: |" * (HEAD.count("|") + 1), flush=True)
        for point in every[name]:
            show(replace(point, loss=arguments.loss))


if __name__ == "__main__":
    main()
