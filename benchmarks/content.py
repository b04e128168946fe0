"""What the content score brings on validation items, in several forms, and what it costs.

    python benchmarks/content.py forms --store .llmser/artefacts/DATASET [--model base/42]
    python benchmarks/content.py cold --store .llmser/artefacts/DATASET [--model base/42]
    python benchmarks/content.py cost [--users 4096] [--items 100000]

`forms` and `cold` take what a run has left in its artefact store: histories, validation items, vectors of texts and a
trained model (the newest of each). No test item is touched.

`forms` ranks every validation item with every γ, for each way of saying how near an item is to a history: which cosines
count (all, or those to the K nearest texts, less that of the K-th), and how the history's items are put together.
`cold` counts hits among the targets that no training history has. `cost` ranks synthetic users with and without it, one
thread, and says what 10⁶ users would take: a user costs the same whoever else is ranked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.methods.additions import content, near_texts
from llmser_tasks.methods.additions.near_history import NearHistory
from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.recommenders import Added, Model, Watch, load, ranks, ranks_by_share, top_k
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.texts.neighbours import neighbours
from llmser_tasks.texts.vectors import ItemVectors

MIB = 1 << 20
Weights = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """A dataset's validation items and a model that was trained on its histories."""

    model: Model
    watch: Watch
    vectors: ItemVectors
    counts: NDArray[np.int64]
    threshold: int

    @classmethod
    def of(cls, store: Path, name: str) -> Case:
        def newest(what: str) -> Path:
            return max(
                (path.parent for path in (store / what).glob("*/manifest.json")), key=lambda p: p.stat().st_mtime
            )

        training = newest("training")
        histories = Histories.read(training / "histories.parquet")
        targets = read_targets(newest("validation") / "targets.parquet")
        owned, vectors = targets.inputs(histories), ItemVectors.read(newest("item-vectors"))
        threshold = json.loads((training / "manifest.json").read_text(encoding="utf-8"))["summary"]["tail_threshold"]
        counts = histories.counts(len(vectors.titled) - 1)
        folder = next((path for path in (store / name, Path(name)) if (path / "config.json").exists()), None)
        return cls(load(folder or newest(name)), Watch.of(owned, targets.items, owned), vectors, counts, threshold)

    def choose(self, added: Added) -> tuple[content.Gamma, dict[str, float], NDArray[np.int32]]:
        watch = self.watch
        found = ranks_by_share(self.model, watch.contexts, watch.targets, watch.exclude, added, content.GRID)
        gamma, said = content.choose(found, watch.contexts.lengths, self.threshold)
        return gamma, said, found


# Forms ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dense:
    """Every form there is, worked out from a matrix of all items to all items."""

    matrix: Tensor  # (I, I): row: the owned item
    histories: Histories
    weights: Weights
    most: bool  # the largest counts; else the sum, or, of `mean`, the weighted mean
    mean: bool = False

    def tile(self, rows: NDArray[np.int64], first: int, last: int) -> Tensor:
        return torch.stack([self._of(row, slice(first, last)) for row in rows])

    def of(self, rows: NDArray[np.int64], candidates: Tensor) -> Tensor:
        columns = (candidates - 1).clamp(min=0)
        return torch.stack([self._of(row, own) for row, own in zip(rows, columns, strict=True)])

    def _of(self, row: int, columns: slice | Tensor) -> Tensor:
        items = self.histories[row]
        weights = self.weights(len(items) - np.arange(len(items))).astype(np.float32)
        each = self.matrix[:, columns][items - 1] if isinstance(columns, Tensor) else self.matrix[items - 1, columns]
        each = each * torch.from_numpy(weights)[:, None]
        return each.amax(0) if self.most else each.sum(0) / (float(weights.sum()) if self.mean else 1)


def nearest_alone(cosines: Tensor, nearest: int) -> Tensor:
    """Cosines to the K nearest, less that of the K-th, or of the last one where there are fewer; the others are 0."""
    return (cosines - cosines.topk(min(nearest, len(cosines) - 1), dim=1)[0][:, -1:]).clamp_(min=0)


def forms(case: Case) -> None:
    vectors = torch.from_numpy(case.vectors.vectors[1:])
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-1)
    contexts, latest = case.watch.contexts, 10
    ways: dict[str, tuple[Weights, bool, bool]] = {
        "max": (lambda k: np.ones(len(k)), True, False),
        f"max, latest {latest}": (lambda k: k <= latest, True, False),
        "max of 1 / √k": (lambda k: 1 / np.sqrt(k), True, False),
        "mean, 1 / k": (lambda k: 1 / k, False, True),
        "sum, 1 / k": (lambda k: 1 / k, False, False),
    }
    print(f"{len(contexts):,} users, {len(vectors):,} items, tail: n ≤ {case.threshold}\n")
    print("| cosines | history | all: without | all | γ tail | γ head | tail: without | tail | head: without | head |")
    print("| --- | --- " + "| ---: " * 8 + "|")
    for nearest in (0, 50, 100, 200):
        matrix = nearest_alone(cosines, nearest) if nearest else cosines
        name = f"nearest {nearest}, less the last" if nearest else "all"
        for way, (weights, most, mean) in ways.items():
            if nearest in (0, near_texts.NEAREST) or way.startswith("max of"):
                _row(name, way, case, Dense(matrix, contexts, weights, most, mean))
    _row("as it is", "", case, NearHistory.to(contexts, NearTexts.among(case.vectors), case.model.device))


def _row(name: str, way: str, case: Case, added: Added) -> None:
    gamma, said, _ = case.choose(added)
    cells = [name, way, f"{said['ndcg_without']:.4f}", f"{said['ndcg']:.4f}", f"{gamma.tail:g}", f"{gamma.head:g}"]
    for group in said["groups"].values():
        cells += [f"{group['ndcg'][0]:.4f}", f"{max(group['ndcg']):.4f}"]
    print(f"| {' | '.join(cells)} |", flush=True)


# Items that nobody had in training -----------------------------------------------------------------------------------


def cold(case: Case) -> None:
    watch = case.watch
    likeness = NearHistory.to(watch.contexts, NearTexts.among(case.vectors), case.model.device)
    gamma, said, found = case.choose(likeness)
    added = likeness.times(gamma.of(watch.contexts))
    served = ranks(case.model, watch.contexts, watch.targets, watch.exclude, added)
    is_cold = case.counts == 0
    is_cold[0] = False
    of_cold = is_cold[watch.targets]
    print(f"{int(is_cold.sum())} of {len(is_cold) - 1:,} items are in no training history and {int(of_cold.sum())} of")
    print(f"{len(of_cold):,} validation items are such; γ {gamma.tail:g} (tail), {gamma.head:g} (head)\n")
    if not of_cold.any():
        sys.exit(
            "So nothing can be said of them here; take a dataset whose validation items training has not all seen."
        )
    print("| | N@10 of all | H@10 of all | H@10 of cold targets | median rank of these | cold among all top 10 |")
    print("| --- " + "| ---: " * 5 + "|")
    for name, ranked, more, ndcg in (
        ("model", found[0], None, said["ndcg_without"]),
        ("with content", served, added, said["ndcg"]),
    ):
        items, _ = top_k(case.model, watch.contexts, 10, watch.exclude, added=more)
        print(
            f"| {name} | {ndcg:.4f} | {(ranked <= 10).mean():.4f} | {(ranked[of_cold] <= 10).sum()} of "
            f"{int(of_cold.sum())} | {np.median(ranked[of_cold]):.0f} | {is_cold[items].mean():.5%} |"
        )


# Cost ----------------------------------------------------------------------------------------------------------------


def cost(users: int, items: int) -> None:
    random = np.random.default_rng(42)
    lengths = 1 + random.geometric(1 / 8, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    histories = Histories(
        np.arange(users, dtype=np.int32), offsets, random.integers(1, items + 1, offsets[-1], dtype=np.int32)
    )
    torch.manual_seed(0)
    model = make_model(Recommender(backbone="sasrec"), items).eval()
    contexts, targets = histories.drop_last(), histories.last()
    few = contexts.select(np.arange(min(64, users)))
    ranks(model, few, targets[: len(few)], few)  # compiles
    top_k(model, few, 10, few)
    plain = (
        _timed(lambda: ranks(model, contexts, targets, contexts)),
        _timed(lambda: top_k(model, contexts, 10, contexts)),
    )
    before = _peak()

    listed = near_texts.NEAREST
    ids = np.sort(random.integers(1, items + 1, (items, listed), dtype=np.int32), axis=1)
    nearness = random.random(items * listed, dtype=np.float32)
    near = NearTexts(np.arange(-1, items, dtype=np.int32), np.arange(items + 1) * listed, ids.ravel(), nearness)
    added = NearHistory.to(contexts, near, torch.device("cpu")).times(np.full(users, 2, np.float32))
    added.tile(np.arange(1), 0, 1)  # compiles
    more = (
        _timed(lambda: ranks(model, contexts, targets, contexts, added)),
        _timed(lambda: top_k(model, contexts, 10, contexts, added=added)),
    )
    grid = _timed(lambda: ranks_by_share(model, contexts, targets, contexts, added, content.GRID))
    print(f"{users:,} users of {lengths.mean() - 1:.1f} items, {items:,} items\n")
    print("| | CPU s per 1,000 users | with content | ratio | 10⁶ users, CPU hours |")
    print("| --- " + "| ---: " * 4 + "|")
    for name, was, now in (("ranks", plain[0], more[0]), ("top 10", plain[1], more[1]), ("γ chosen", plain[0], grid)):
        each = now / users * 1000
        print(f"| {name} | {was / users * 1000:.3f} | {each:.3f} | {now / was:.2f} | {each / 3.6:.2f} |")
    of_lists, of_users = items * listed * 8 / MIB, 10**6 * lengths.mean() * 12 / MIB
    print(f"\nmemory: lists {of_lists:.0f} MiB, texts and weights of 10⁶ users {of_users:.0f} MiB")
    print(f"peak here: {before:.0f} MiB without it, {_peak():.0f} MiB with it")

    size = min(20_000, items)
    vectors = torch.nn.functional.normalize(torch.randn(size, 384)).numpy()
    once = _timed(lambda: neighbours(vectors, listed))
    print(f"neighbours of texts, once: {once * (items / size) ** 2:.0f} CPU s, from {once:.1f} s for {size:,}")


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) * 1024 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["forms", "cold", "cost"])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model", default="base/42", help="a name below --store, or the folder of a model")
    parser.add_argument("--users", type=int, default=4096)
    parser.add_argument("--items", type=int, default=100_000)
    given = parser.parse_args()
    os.environ.setdefault("LLMSER_THREADS", "1")
    torch.set_num_threads(1)
    if given.what == "cost":
        cost(given.users, given.items)
        return
    if given.store is None:
        sys.exit("--store is needed: the folder of a dataset in the artefact store of a run.")
    (forms if given.what == "forms" else cold)(Case.of(given.store, given.model))


if __name__ == "__main__":
    main()
