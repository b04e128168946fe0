"""What the benchmarks of item tables and terms share: a real dataset, their options, and trainings side by side."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dumps
import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks.core import environment
from llmser_tasks.core.config import Recommender
from llmser_tasks.core.files import EMBEDDINGS
from llmser_tasks.core.kinds import BACKBONES, ITEM_TABLES
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.recommenders import Watch, WeightedTerm, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.minibatches import plan_epoch, users_per_step
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.texts.encoder import Encoder, embed_cached
from llmser_tasks.texts.neighbours import Neighbours, neighbours
from llmser_tasks.texts.user_vectors import weighted_means

TURN = 20  # batches: long enough for an arm to have the cache to itself
NEIGHBOURS = 10  # of a user or an item, as in a run by default


@dataclass(frozen=True)
class Data:
    """Training histories, validation targets, and (I + 1, D) vectors of titles."""

    training: Histories
    watch: Watch
    vectors: NDArray[np.float32]

    @property
    def items(self) -> int:
        return len(self.vectors) - 1

    def user_neighbours(self) -> Neighbours:
        return neighbours(weighted_means(self.training, self.vectors), NEIGHBOURS)


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Attributes:
        without: parts that are left out of the item table.
        terms: what is minimised beside next items.
        features: what these are made from.
    """

    name: str
    table: str = ITEM_TABLES.default
    without: Sequence[str] = ()
    terms: Sequence[WeightedTerm] = ()
    features: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def minimised(self, data: Data) -> list[WeightedTerm]:
        return [WeightedTerm(data.training), *self.terms]

    def of_table(self, data: Data) -> dict[str, NDArray[np.generic]]:
        return dict.fromkeys(ITEM_TABLES[self.table].features, data.vectors)


def options(about: str | None) -> argparse.ArgumentParser:
    """A parser with what all of them need."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES.default)
    return parser


def numbers(given: str) -> list[int]:
    """`42,43` as an option."""
    return [int(number) for number in given.split(",") if number]


def begin(arguments: argparse.Namespace, more: str = "") -> tuple[Data, Recommender]:
    """Read the dataset, which is ingested, cut and embedded once, and say what it is."""
    os.environ["LLMSER_THREADS"] = "1"
    data = _read(arguments.data, arguments.dataset)
    size = f"{len(data.training):,} users, {data.items:,} items, vectors of {data.vectors.shape[1]}"
    print(f"{arguments.dataset}: {size}; {BACKBONES[arguments.backbone].title}, one thread{more}.", flush=True)
    return data, Recommender(backbone=arguments.backbone)


def _read(folder: Path, name: str) -> Data:
    store, made = dumps.cut(folder, name)
    training = Histories.read(store.folder(made["training"]) / "histories.parquet")
    targets = read_targets(store.folder(made["validation"]) / "targets.parquet")
    shown = targets.inputs(training)
    titles = [title or "" for title in Catalogue.read(store.folder(made["catalogue"])).titles.to_pylist()]
    encoder = Encoder.open(environment.configuration(dumps.values(folder, name)).reliability.encoder)
    embedded = embed_cached(encoder, titles, store.root / EMBEDDINGS)
    vectors = np.concatenate([np.zeros((1, encoder.dimension), np.float32), embedded])
    return Data(training, Watch.of(shown, targets.items, exclude=shown), vectors)


def cost(data: Data, config: Recommender, arms: Sequence[Arm], rounds: int) -> None:
    """Print the CPU seconds of an epoch's steps and of what comes before them, and how many times the first arm's.

    A round is an epoch of all: TURN batches of each at a time, in an order drawn anew each time, on one thread. Where
    arms learn from the same users, they take the same batches. Validation does not count, and what it finds is at hand
    as in a training. The first round warms up.
    """
    with pinned_threads():
        _print_cost(_seconds(data, config, arms, rounds))


def _seconds(data: Data, config: Recommender, arms: Sequence[Arm], rounds: int) -> dict[str, list[float]]:
    fitted: dict[str, tuple[Model, Adam, Objective]] = {}
    for arm in arms:
        torch.manual_seed(0)
        model = make_model(config, data.items, arm.table, arm.of_table(data), arm.without).train()
        objective = Objective.of(config, arm.minimised(data), data.items, torch.device("cpu"), arm.features)
        fitted[arm.name] = model, Adam(model.parameters(), config.learning_rate), objective
    seconds: dict[str, list[float]] = {name: [] for name in fitted}
    torch.set_flush_denormal(True)
    for number in range(rounds + 1):
        spent, order = dict.fromkeys(fitted, 0.0), np.random.default_rng(number)
        planned = {}
        for name, (model, _, objective) in fitted.items():
            seen = Seen.by(model, data.watch)  # as when the epoch before was judged
            started = time.process_time()
            objective.begin_epoch(model, seen=seen)
            spent[name] += time.process_time() - started
            planned[name] = plan_epoch(objective.rows, users_per_step(config, len(objective.rows)), number)
        for first in range(0, max(map(len, planned.values())), TURN):
            for name in order.permutation(list(fitted)).tolist():
                spent[name] += _steps(*fitted[name], planned[name][first : first + TURN], number * 1000 + first)
        for name, value in spent.items():
            if number:
                seconds[name].append(value)
    return seconds


def _steps(
    model: Model, optimiser: Adam, objective: Objective, batches: Sequence[NDArray[np.int64]], seed: int
) -> float:
    """Train on some batches; the CPU seconds that it took."""
    torch.manual_seed(seed)
    started = time.process_time()
    for place, batch in enumerate(batches):
        torch.autograd.backward(objective(model, torch.from_numpy(batch), seed + place))
        optimiser.step()
    return time.process_time() - started


def _print_cost(seconds: Mapping[str, Sequence[float]]) -> None:
    first = next(iter(seconds))
    print(f"\n| | CPU s an epoch, median | × {first}, median | range |\n| --- | ---: | ---: | --- |")
    for name, own in seconds.items():
        ratios = [one / other for one, other in zip(own, seconds[first], strict=True)]
        told = f"{statistics.median(own):.2f} | {statistics.median(ratios):.2f} | {min(ratios):.2f}–{max(ratios):.2f}"
        print(f"| {name} | {told} |", flush=True)


def quality(data: Data, config: Recommender, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    """Train each arm with each seed, as a run would, and print the best validation NDCG@10 and what an epoch took,
    validation included. Test items are never read.
    """
    print("\n| | seed | best validation N@10 | epoch | epochs | CPU s an epoch |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for arm in arms:
        best = []
        for seed in seeds:
            started = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                summary = train(
                    config,
                    arm.minimised(data),
                    data.items,
                    seed,
                    Path(folder),
                    watch=data.watch,
                    item_table=arm.table,
                    table_without=arm.without,
                    features={**arm.of_table(data), **arm.features},
                    device="cpu",
                )
            spent = (time.process_time() - started) / summary.epochs
            best.append(summary.ndcg)
            told = f"{seed} | {summary.ndcg:.4f} | {summary.best_epoch} | {summary.epochs} | {spent:.2f}"
            print(f"| {arm.name} | {told} |", flush=True)
        if len(seeds) > 1:
            print(f"| {arm.name} | mean | {np.mean(best):.4f} | | | |", flush=True)
