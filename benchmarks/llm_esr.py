"""What LLM-ESR costs, and what it and its ablations bring on validation items, beside the base on the same users.

    python benchmarks/llm_esr.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--rounds 5]
        [--train 42,43] [--arms base,llm-esr,co-view,…]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. A round is an epoch: both train on the same users, TURN
batches at a time in turns, on one thread; what is counted is the CPU time of their steps and, for LLM-ESR, of encoding
its teachers. The first round warms up. The ratio is the median over rounds, with the least and the greatest.

--train also trains each arm with each of these seeds, as a run would, and prints the best validation NDCG@10. An arm is
the base, `text-start` or another item table, LLM-ESR, or a part that it is to be without. Neighbours are those of a
run by default. Test items are never read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dumps
import numpy as np
import torch
from item_tables import TURN, Data, read, steps
from numpy.typing import NDArray

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import BACKBONES, ITEM_TABLES, METHODS, REFERENCE
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.recommenders import WeightedTerm, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.minibatches import plan_epoch, users_per_step
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.texts.neighbours import neighbours
from llmser_tasks.texts.user_vectors import weighted_means

WHOLE, WEIGHT, NEIGHBOURS = "llm-esr", 0.1, 10
ESR = METHODS[WHOLE]
DISTILLED = "self-distillation"


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Attributes:
        without: parts that are left out of the item table.
        distilled: whether users learn from their neighbours.
    """

    table: str
    without: Sequence[str] = ()
    distilled: bool = False

    @classmethod
    def named(cls, name: str) -> Arm:
        if name in {REFERENCE, *ITEM_TABLES}:
            return cls(ITEM_TABLES.default if name == REFERENCE else name)
        parts = [] if name in {WHOLE, DISTILLED} else [name]
        return cls(ESR.item_table, parts, distilled=name != DISTILLED)

    def terms(self, data: Data) -> list[WeightedTerm]:
        of_items = [WeightedTerm(data.training)]
        weight = np.full(len(data.training), WEIGHT, np.float32)
        return of_items + [WeightedTerm(data.training, weight, name=name) for name in ESR.terms if self.distilled]

    def features(self, data: Data, near: NDArray[np.int32]) -> dict[str, NDArray[np.generic]]:
        return data.features(self.table) | ({"user_neighbours": near} if self.distilled else {})


def cost(data: Data, config: Recommender, near: NDArray[np.int32], arms: Sequence[str], rounds: int) -> None:
    """Print what the steps of an epoch take."""
    fitted = {}
    for name in arms:
        arm = Arm.named(name)
        torch.manual_seed(0)
        model = make_model(config, data.items, arm.table, arm.features(data, near), arm.without).train()
        given = {"user_neighbours": near} if arm.distilled else {}
        objective = Objective.of(config, arm.terms(data), data.items, torch.device("cpu"), given)
        fitted[name] = model, Adam(model.parameters(), config.learning_rate), objective
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    torch.set_flush_denormal(True)
    for number in range(rounds + 1):
        spent = dict.fromkeys(arms, 0.0)
        planned = {}
        for name, (model, _, objective) in fitted.items():
            started = time.process_time()
            objective.begin_epoch(model)
            spent[name] += time.process_time() - started
            planned[name] = plan_epoch(objective.rows, users_per_step(config, len(objective.rows)), number)
        for turn, first in enumerate(range(0, max(map(len, planned.values())), TURN)):
            for name in np.roll(arms, turn):
                batches = planned[name][first : first + TURN]
                spent[name] += steps(*fitted[name], batches, seed=number * 1000 + first)
        for name, value in spent.items():
            if number:
                seconds[name].append(value)
    print(f"\n| | CPU s an epoch | × {arms[0]} | range |\n| --- | ---: | ---: | --- |")
    for name, own in seconds.items():
        ratios = [one / other for one, other in zip(own, seconds[arms[0]], strict=True)]
        told = f"{statistics.median(own):.2f} | {statistics.median(ratios):.2f} | {min(ratios):.2f}–{max(ratios):.2f}"
        print(f"| {name} | {told} |", flush=True)


def quality(data: Data, config: Recommender, near: NDArray[np.int32], arms: Sequence[str], seeds: list[int]) -> None:
    """Print what a training of each comes to on validation items."""
    print("\n| | seed | best validation N@10 | epoch | epochs |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for seed in seeds:
        for name in arms:
            arm = Arm.named(name)
            with tempfile.TemporaryDirectory() as folder:
                summary = train(
                    config,
                    arm.terms(data),
                    data.items,
                    seed,
                    Path(folder),
                    watch=data.watch,
                    item_table=arm.table,
                    table_without=arm.without,
                    features=arm.features(data, near),
                    device="cpu",
                )
            told = f"{seed} | {summary.ndcg:.4f} | {summary.best_epoch} | {summary.epochs}"
            print(f"| {name} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES.default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", default="")
    parser.add_argument("--arms", default=f"{REFERENCE},{DISTILLED},{WHOLE}")
    arguments = parser.parse_args()
    os.environ["LLMSER_THREADS"] = "1"
    data, config = read(arguments.data, arguments.dataset), Recommender(backbone=arguments.backbone)
    near = neighbours(weighted_means(data.training, data.vectors), NEIGHBOURS).rows
    arms = arguments.arms.split(",")
    size = f"{len(data.training):,} users, {data.items:,} items, vectors of {data.vectors.shape[1]}"
    print(f"{arguments.dataset}: {size}; {BACKBONES[arguments.backbone].title}, one thread.")
    if arguments.rounds:
        with pinned_threads():
            cost(data, config, near, arms, arguments.rounds)
    if arguments.train:
        quality(data, config, near, arms, [int(seed) for seed in arguments.train.split(",")])


if __name__ == "__main__":
    main()
