"""The search behind the defaults: a handful of settings per backbone, by validation NDCG@10, on Beauty or another.

    python benchmarks/search.py --data FOLDER [--backbone sasrec,gru4rec] [--epochs 200] [--cpu-seconds 600]
        [--only batch_size,learning_rate] [--seed 43] [--dataset amazon_gift_cards_2018] [--users 2500]
    python benchmarks/search.py --data FOLDER --cooccurrence

FOLDER holds `amazon_beauty_2014/`, or what --dataset names (and, for --cooccurrence, `amazon_gift_cards_2018/`). Each
setting differs from the defaults in what its row names, and trains until its CPU seconds are spent, its epochs are run
or its patience ends. Test targets are never read. Finished settings are kept in $LLMSER_HOME/benchmarks/search.jsonl
and are not repeated under the same data, defaults and budget, so an interrupted search goes on; delete the file after a
change of the code. --users tries it on a seeded sample; --only leaves the defaults and what changes the settings that
it names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dumps
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from llmser_tasks.core import config, environment
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.methods.cooccurrence import WINDOW
from llmser_tasks.methods.counting import distinct
from llmser_tasks.recommenders import Watch, WeightedTerm, train
from llmser_tasks.recommenders.backbones import bert4rec
from llmser_tasks.recommenders.loop.minibatches import users_per_step
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets

MASK = "mask_probability"  # BERT4Rec's, a constant of its module
SETTINGS: list[dict[str, Any]] = [
    {},
    {"negatives_from": "uniform"},
    {"negatives_from": "popularity"},
    {"dropout": 0.35},
    {"dropout": 0.2},
    {"learning_rate": 2e-3},
    {"learning_rate": 5e-4},
    {"negatives": 4096},
    {"negatives": 256},
    {"batch_size": 32},
    {"batch_size": 64},
    {"batch_size": 128},
    {"batch_size": 256},
    {"batch_size": 512},
    {"batch_size": 256, "learning_rate": 2e-3},
    {"loss": "gbce"},
    {"loss": "bce"},
    {"loss": "cross-entropy"},
]
MASKED: list[dict[str, Any]] = [{MASK: 0.15}, {MASK: 0.5}]
DATASETS = ("amazon_beauty_2014", "amazon_gift_cards_2018")


@dataclass(frozen=True)
class Data:
    """What a search may see of a dataset: training histories and validation targets."""

    name: str
    training: Histories
    watch: Watch
    items: int

    @classmethod
    def read(cls, name: str, folder: Path, users: int | None = None) -> Data:
        """All users, or a seeded sample of them."""
        store, made = dumps.cut(folder, name)
        training = Histories.read(store.folder(made["training"]) / "histories.parquet")
        targets = read_targets(store.folder(made["validation"]) / "targets.parquet")
        shown = targets.inputs(training)
        if users is not None and users < len(training):
            chosen = np.sort(np.random.default_rng(42).choice(len(training), users, replace=False))
            training = training.select(chosen)
        known = training.rows_of(shown.users) >= 0
        watch = Watch.of(shown.select(known), targets.items[known], shown.select(known))
        return cls(name, training, watch, dumps.items_of(store, made["catalogue"]))


# Backbones -----------------------------------------------------------------------------------------------------------


class Spent(Exception):
    """The budget of one setting is used up."""


def try_setting(
    data: Data, backbone: str, changed: dict[str, Any], epochs: int, budget: float, seed: int
) -> dict[str, Any]:
    """Train once: the best validation NDCG@10 within the budget and the CPU seconds it took."""
    default = bert4rec.MASK_PROBABILITY
    knobs = {name: value for name, value in changed.items() if name != MASK}
    recommender = config.Recommender.model_validate({"backbone": backbone, "epochs": epochs, **knobs})
    started, clock = time.process_time(), list[float]()

    def note(done: int, total: int | None, unit: str, note: str = "") -> None:
        del unit
        clock.append(time.process_time() - started)
        print(f"{backbone} {changed}, epoch {done} of {total}, {clock[-1]:.0f} CPU s: {note}", file=sys.stderr)
        if clock[-1] > budget:
            raise Spent

    bert4rec.MASK_PROBABILITY = changed.get(MASK, default)
    with tempfile.TemporaryDirectory() as folder:
        try:
            terms = [WeightedTerm(data.training)]
            train(recommender, terms, data.items, seed, Path(folder), watch=data.watch, progress=note)
        except Spent:
            pass
        finally:
            bert4rec.MASK_PROBABILITY = default
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    best = max(log, key=lambda entry: entry["ndcg@10"])
    return {
        "ndcg@10": best["ndcg@10"],
        "best_epoch": int(best["epoch"]),
        "epochs_run": len(log),
        "cpu_seconds_to_best": round(clock[int(best["epoch"]) - 1], 1),
        "cpu_seconds": round(clock[-1], 1),
    }


def search(
    data: Data, backbone: str, only: set[str] | None, epochs: int, budget: float, seed: int, kept: Path
) -> list[dict[str, Any]]:
    """Every setting of a backbone that changes nothing but `only`, best first.

    Those found in `kept` are not trained again.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    finished = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    default = config.Recommender.model_validate({"backbone": backbone})
    defaults = default.model_dump(mode="json", exclude={"epochs"})
    defaults[MASK] = bert4rec.MASK_PROBABILITY
    rows = []
    for changed in SETTINGS + (MASKED if backbone == "bert4rec" else []):
        if only is not None and not only.issuperset(changed):
            continue
        if changed == {"batch_size": users_per_step(default, len(data.training))}:
            continue
        asked = {
            "data": data.name,
            "users": len(data.training),
            "items": data.items,
            "backbone": backbone,
            "changed": changed,
            "defaults": defaults,
            "epochs": epochs,
            "budget": budget,
            "seed": seed,
        }
        row = next((row for row in finished if {name: row.get(name) for name in asked} == asked), None)
        if row is None:
            row = asked | try_setting(data, backbone, changed, epochs, budget, seed)
            with kept.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
        rows.append(row)
    return sorted(rows, key=lambda row: -float(row["ndcg@10"]))


def show_search(data: Data, backbone: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{backbone}, {data.name}, {len(data.training)} users, {data.items} items\n")
    print("| changed | validation NDCG@10 | best epoch | epochs | CPU s to best | CPU s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        changed = ", ".join(f"{name} {value}" for name, value in row["changed"].items()) or "(defaults)"
        figures = [row[name] for name in ("best_epoch", "epochs_run", "cpu_seconds_to_best", "cpu_seconds")]
        print(f"| {changed} | {row['ndcg@10']:.4f} | " + " | ".join(map(str, figures)) + " |", flush=True)


# The co-occurrence counter -------------------------------------------------------------------------------------------

Weight = Callable[[NDArray[np.float64]], NDArray[np.float64]]
WEIGHTS: dict[str, Weight] = {
    "1": np.ones_like,
    "1/√x": lambda x: 1 / np.sqrt(x),
    "1/x": lambda x: 1 / x,
    "1/x²": lambda x: 1 / x**2,
    "x = 1 alone": lambda x: (x == 1).astype(float),
}
PAIR, PLACE = tuple(WEIGHTS), tuple(WEIGHTS)  # by how far a pair is apart, by an item's place from the end


def count_pairs(training: Histories, items: int, weigh: Weight, backward: float) -> sp.csr_matrix:
    """(I + 1, I + 1): a pair d apart counts weigh(d) forward and `backward` times that the other way round."""
    rows = np.repeat(np.arange(len(training)), training.lengths)
    total = sp.csr_matrix((items + 1, items + 1))
    for distance in range(1, min(WINDOW, int(training.lengths.max(initial=1)) - 1) + 1):
        weight = float(weigh(np.array([float(distance)]))[0])
        first, second = training.items[:-distance], training.items[distance:]
        pair = (rows[:-distance] == rows[distance:]) & (first != second)
        if weight:
            counted = (np.full(int(pair.sum()), weight), (first[pair], second[pair]))
            total = total + sp.csr_matrix(counted, shape=total.shape)
    return (total + backward * total.T).tocsr() if backward else total


def ndcg_at_10(matrix: sp.csr_matrix, watch: Watch, weigh: Weight) -> float:
    """Full ranking, history excluded, ties against the counter; the k-th item from the end counts weigh(k)."""
    gained = 0.0
    for start in range(0, len(watch.contexts), 512):
        stop = min(start + 512, len(watch.contexts))
        contexts, targets = watch.contexts.select(np.arange(start, stop)), watch.targets[start:stop]
        rows = np.repeat(np.arange(len(contexts)), contexts.lengths)
        places = (contexts.offsets[1:][rows] - np.arange(len(contexts.items))).astype(float)
        weights = sp.csr_matrix((weigh(places), (rows, contexts.items)), shape=(len(contexts), matrix.shape[0]))
        scores = (weights @ matrix).toarray()
        every = np.arange(len(contexts))
        wanted = scores[every, targets]
        scores[distinct(contexts)] = -np.inf
        scores[:, 0] = scores[every, targets] = -np.inf
        ranks = 1 + (scores >= wanted[:, None]).sum(axis=1)
        gained += float(np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0).sum())
    return gained / len(watch.contexts)


def show_cooccurrence(data: list[Data]) -> None:
    """The counter as it is, then with one weight changed at a time; best first on the first dataset."""
    variants = {(pair, "1/x", 0.0) for pair in PAIR} | {("1/x", place, 0.0) for place in PLACE}
    variants |= {("1/x", "1/x", 0.5), ("1/x", "1/x", 1.0), ("1/√x", "1/√x", 0.0), ("1/√x", "1/x²", 0.0)}
    found = {
        (pair, place, backward): [
            ndcg_at_10(count_pairs(d.training, d.items, WEIGHTS[pair], backward), d.watch, WEIGHTS[place]) for d in data
        ]
        for pair, place, backward in sorted(variants)
    }
    print("| pair x apart | x-th from the end | backward | " + " | ".join(d.name for d in data) + " |")
    print("| --- | --- | ---: |" + " ---: |" * len(data))
    for (pair, place, backward), figures in sorted(found.items(), key=lambda item: -item[1][0]):
        cells = " | ".join(f"{figure:.4f}" for figure in figures)
        print(f"| {pair} | {place} | {backward} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbone", default=",".join(BACKBONES))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--cpu-seconds", type=float, default=600)
    parser.add_argument("--users", type=int)
    parser.add_argument("--only")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--cooccurrence", action="store_true")
    arguments = parser.parse_args()
    if arguments.cooccurrence:
        show_cooccurrence([Data.read(name, arguments.data, arguments.users) for name in DATASETS])
        return
    data = Data.read(arguments.dataset, arguments.data, arguments.users)
    kept = environment.home() / "benchmarks" / "search.jsonl"
    only = set(arguments.only.split(",")) if arguments.only else None
    for backbone in arguments.backbone.split(","):
        rows = search(data, backbone, only, arguments.epochs, arguments.cpu_seconds, arguments.seed, kept)
        show_search(data, backbone, rows)


if __name__ == "__main__":
    main()
