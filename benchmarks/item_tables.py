"""What item tables cost, and what they bring on validation items: one training of each, on the same users and batches.

    python benchmarks/item_tables.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--rounds 5]
        [--train 42,43]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. A round is an epoch: all tables train on the same batches,
TURN batches at a time in turns, on one thread; what is counted is the CPU time of their steps. The first warms up.
The ratio to ids is the median over rounds, with the least and the greatest.

--train also trains every table with each of these seeds, as a run would, and prints the best validation NDCG@10. Test
items are never read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
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
from llmser_tasks.recommenders.loop.minibatches import plan_epoch, users_per_step
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.texts.encoder import Encoder, embed_cached

FEATURE = "item_vectors"
TABLES = [name for name, table in ITEM_TABLES.items() if set(table.features) <= {FEATURE}]
TURN = 20  # batches: long enough for a table to have the cache to itself


@dataclass(frozen=True)
class Data:
    """Training histories, validation targets, and (I + 1, D) vectors of titles."""

    training: Histories
    watch: Watch
    vectors: NDArray[np.float32]

    @property
    def items(self) -> int:
        return len(self.vectors) - 1

    def features(self, table: str) -> dict[str, NDArray[np.generic]]:
        return dict.fromkeys(ITEM_TABLES[table].features, self.vectors)


def read(folder: Path, name: str) -> Data:
    """Ingest, cut and embed a dataset; what is there already is kept."""
    store, made = dumps.cut(folder, name)
    training = Histories.read(store.folder(made["training"]) / "histories.parquet")
    targets = read_targets(store.folder(made["validation"]) / "targets.parquet")
    shown = targets.inputs(training)
    titles = [title or "" for title in Catalogue.read(store.folder(made["catalogue"])).titles.to_pylist()]
    encoder = Encoder.open(environment.configuration(dumps.values(folder, name)).reliability.encoder)
    embedded = embed_cached(encoder, titles, store.root / EMBEDDINGS)
    vectors = np.concatenate([np.zeros((1, encoder.dimension), np.float32), embedded])
    return Data(training, Watch.of(shown, targets.items, exclude=shown), vectors)


def cost(data: Data, config: Recommender, rounds: int) -> dict[str, list[float]]:
    """CPU seconds that each table's steps of each round took."""
    objective = Objective.of(config, [WeightedTerm(data.training)], data.items, torch.device("cpu"))
    fitted: dict[str, tuple[Model, Adam]] = {}
    for table in TABLES:
        torch.manual_seed(0)
        model = make_model(config, data.items, table, data.features(table)).train()
        fitted[table] = model, Adam(model.parameters(), config.learning_rate)
    seconds: dict[str, list[float]] = {table: [] for table in TABLES}
    torch.set_flush_denormal(True)
    for number in range(rounds + 1):
        batches = plan_epoch(objective.rows, users_per_step(config, len(objective.rows)), number)
        spent = dict.fromkeys(TABLES, 0.0)
        order = np.random.default_rng(number)
        for first in range(0, len(batches), TURN):
            for table in order.permutation(TABLES).tolist():
                spent[table] += steps(
                    *fitted[table], objective, batches[first : first + TURN], seed=number * 1000 + first
                )
        if number:
            for table, value in spent.items():
                seconds[table].append(value)
    return seconds


def steps(model: Model, optimiser: Adam, objective: Objective, batches: list[NDArray[np.int64]], seed: int) -> float:
    """Train on some batches; the CPU seconds that it took."""
    torch.manual_seed(seed)
    started = time.process_time()
    for place, batch in enumerate(batches):
        torch.autograd.backward(objective(model, torch.from_numpy(batch), seed + place))
        optimiser.step()
    return time.process_time() - started


def print_cost(seconds: dict[str, list[float]]) -> None:
    print("\n| item table | CPU s an epoch | × ids | range |\n| --- | ---: | ---: | --- |")
    for table, spent in seconds.items():
        ratios = [own / ids for own, ids in zip(spent, seconds[ITEM_TABLES.default], strict=True)]
        told = f"{statistics.median(spent):.2f} | {statistics.median(ratios):.3f} | {min(ratios):.3f}–{max(ratios):.3f}"
        print(f"| {ITEM_TABLES[table].title} | {told} |", flush=True)


def print_quality(data: Data, config: Recommender, seeds: list[int]) -> None:
    print(
        "\n| item table | seed | best validation N@10 | epoch | epochs |\n| --- | ---: | ---: | ---: | ---: |",
        flush=True,
    )
    for seed in seeds:
        for table in TABLES:
            with tempfile.TemporaryDirectory() as folder:
                summary = train(
                    config,
                    [WeightedTerm(data.training)],
                    data.items,
                    seed,
                    Path(folder),
                    watch=data.watch,
                    item_table=table,
                    features=data.features(table),
                    device="cpu",
                )
            told = f"{seed} | {summary.ndcg:.4f} | {summary.best_epoch} | {summary.epochs}"
            print(f"| {ITEM_TABLES[table].title} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES.default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", default="")
    arguments = parser.parse_args()
    os.environ["LLMSER_THREADS"] = "1"
    data, config = read(arguments.data, arguments.dataset), Recommender(backbone=arguments.backbone)
    size = f"{len(data.training):,} users, {data.items:,} items, vectors of {data.vectors.shape[1]}"
    print(f"{arguments.dataset}: {size}; {BACKBONES[arguments.backbone].title}, one thread.")
    if arguments.rounds:
        with pinned_threads():
            print_cost(cost(data, config, arguments.rounds))
    if arguments.train:
        print_quality(data, config, [int(seed) for seed in arguments.train.split(",")])


if __name__ == "__main__":
    main()
