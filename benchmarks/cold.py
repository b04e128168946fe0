"""Items that nobody had in training: how well each item table recommends them, and what being a negative does to them.

    python benchmarks/cold.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--seeds 42]
        [--share 0.05] [--tables ids,text-start] [--drawn all,seen]

FOLDER holds `amazon_gift_cards_2018/`, or what --dataset names. A seeded share of the items that have a text loses all
its interactions, in training and in validation; the items stay in the catalogue. Whoever had such an item is asked for
the last one they had, after what they had before it, their other items excluded. All other test users are asked as
ever. --share 0 takes nothing out: cold are then the test items that are in no training history.

A table is trained with negatives drawn from the whole catalogue (all), or from the items that are in a training history
alone (seen); each is ranked without and with the content score, whose γ is chosen on validation items. Trained models
and figures are kept in $LLMSER_HOME/benchmarks/cold, so an interrupted call goes on; delete the folder after a change
of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import dumps
import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks.core import environment
from llmser_tasks.core.config import Recommender
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import ITEM_TABLES, LOSSES
from llmser_tasks.core.run import Run
from llmser_tasks.evaluation.evaluate import known_items
from llmser_tasks.evaluation.metrics import per_user
from llmser_tasks.evaluation.protocols import cases
from llmser_tasks.methods.additions import content
from llmser_tasks.methods.additions.near_history import NearHistory
from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, ranks_by_share, top_k, train
from llmser_tasks.recommenders.load import DESCRIPTION
from llmser_tasks.recommenders.negatives import BatchPositives, Negatives, Sampler, WholeCatalogue, target_counts
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.texts import item_vectors
from llmser_tasks.texts.vectors import ItemVectors

FEATURE = "item_vectors"
TABLES = [name for name, table in ITEM_TABLES.items() if set(table.features) <= {FEATURE}]
SHOWN = ("H@10", "N@10")


@dataclass(frozen=True)
class Asked:
    """Who is asked for what, after what, and what they cannot be recommended."""

    contexts: Histories
    targets: NDArray[np.int32]
    exclude: Histories


@dataclass(frozen=True)
class Split:
    """
    Attributes:
        cold: (I + 1,) items without a training interaction.
    """

    training: Histories
    watch: Watch
    warm_test: Asked
    cold_test: Asked
    cold: NDArray[np.bool_]
    vectors: ItemVectors
    threshold: int

    @classmethod
    def of(cls, data: Path, name: str, share: float) -> Split:
        store, made = dumps.cut(data, name)
        run = Run("cold", environment.configuration(dumps.values(data, name)), store, Warehouse(""))
        refs = {step: one.reference() for step, one in made.items()}
        refs[item_vectors.STEP] = item_vectors.make(run, refs).reference()
        vectors = ItemVectors.read(run.folder(refs, item_vectors.STEP))
        training = Histories.of_run(run, refs)
        validation, test = (read_targets(run.folder(refs, part) / "targets.parquet") for part in ("validation", "test"))
        every, items = known_items(training, validation, test), len(vectors.titled) - 1
        taken = np.zeros(items + 1, bool)
        if share:
            may = np.flatnonzero(vectors.titled & (training.counts(items) > 0))
            taken[np.random.default_rng(42).choice(may, round(share * len(may)), replace=False)] = True
        left = without(training, taken)
        left = left.select(left.lengths > 0)
        cold = left.counts(items) == 0
        cold[0] = False
        shown = without(validation.inputs(training), taken)
        kept = (shown.lengths > 0) & ~taken[validation.items]
        watched = shown.select(kept)
        usual = cases(training, test)
        contexts = without(usual.contexts, taken)
        warm = (contexts.lengths > 0) & ~cold[usual.targets]
        return cls(
            left,
            Watch.of(watched, validation.items[kept], watched),
            Asked(contexts.select(warm), usual.targets[warm], contexts.select(warm)),
            last_of(every, taken) if share else own(contexts, usual.targets, cold),
            cold,
            vectors,
            threshold_of(run, refs),
        )


def own(contexts: Histories, targets: NDArray[np.int32], cold: NDArray[np.bool_]) -> Asked:
    """The test users whose item is cold as it is."""
    these = cold[targets] & (contexts.lengths > 0)
    return Asked(contexts.select(these), targets[these], contexts.select(these))


def without(histories: Histories, taken: NDArray[np.bool_]) -> Histories:
    """Without some items; same rows."""
    kept = ~taken[histories.items]
    ends = np.concatenate([[0], np.cumsum(kept)])[histories.offsets]
    return Histories(histories.users, ends, histories.items[kept])


def last_of(every: Histories, taken: NDArray[np.bool_]) -> Asked:
    """Everybody's last item that was taken out, after what they had before it."""
    users, shown, wanted = [], [], []
    for user, items in zip(every.users.tolist(), every, strict=True):
        if len(places := np.flatnonzero(taken[items])):
            before = items[: places[-1]]
            users.append(user)
            shown.append(before[~taken[before]])
            wanted.append(items[places[-1]])
    contexts, targets = Histories.of(users, shown), np.array(wanted, np.int32)
    these = contexts.lengths > 0
    owned = without(every, taken)
    return Asked(contexts.select(these), targets[these], owned.select(owned.rows_of(contexts.users[these])))


# Negatives among the items of training ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """The usual loss's shared negatives, drawn from the items that are in a training history alone.

    Attributes:
        sampler: knows these items alone, numbered 1 … S in the order of their ids.
        ids: (S + 1,) of each number.
        numbers: (I + 1,) of each id.
    """

    sampler: Sampler
    ids: torch.Tensor
    numbers: torch.Tensor

    def draw(self, rows: torch.Tensor, positives: torch.Tensor, generator: torch.Generator) -> Negatives:
        drawn = self.sampler.draw(rows, self.numbers[positives], generator)
        return replace(drawn, items=self.ids[drawn.items], whole=False)


def seen(
    config: Recommender,
    histories: Histories,
    items: int,
    device: torch.device,
    context: NDArray[np.int64] | None = None,
) -> Sampler:
    had = histories.counts(items) > 0
    ids, numbers = np.concatenate([[0], np.flatnonzero(had)]), np.where(had, np.cumsum(had), 0)
    count, all_ = config.negatives_drawn, len(ids) - 1
    counts = target_counts(histories, items, context)[ids]
    sampler = WholeCatalogue(all_, device) if count >= all_ else BatchPositives(counts, count, device)
    return Seen(sampler, torch.from_numpy(ids).to(device), torch.from_numpy(numbers).to(device))


@contextmanager
def drawn_from(config: Recommender, which: str) -> Iterator[None]:
    module: Any = LOSSES.load(config.loss)
    usual = module.make_sampler
    module.make_sampler = seen if which == "seen" else usual
    try:
        yield
    finally:
        module.make_sampler = usual


# Arms ----------------------------------------------------------------------------------------------------------------


def figures(split: Split, config: Recommender, table: str, drawn: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    """One row without and one with the content score."""
    items = len(split.cold) - 1
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / DESCRIPTION).exists():
        features = dict.fromkeys(ITEM_TABLES[table].features, split.vectors.vectors)
        terms = [WeightedTerm(split.training)]
        with drawn_from(config, drawn):
            train(config, terms, items, seed, folder, watch=split.watch, item_table=table, features=features)
    model, near, watch = load(folder), NearTexts.among(split.vectors), split.watch
    likeness = NearHistory.to(watch.exclude, near, model.device)
    found = ranks_by_share(model, watch.contexts, watch.targets, watch.exclude, likeness, content.GRID)
    gamma, said = content.choose(found, watch.exclude.lengths, split.threshold)
    rows = []
    for addition in ("", "+content"):
        row: dict[str, Any] = {"arm": f"{table}{addition}", "drawn": drawn, "seed": seed}
        row["validation"] = said["ndcg" if addition else "ndcg_without"]
        row["gamma"] = [gamma.tail, gamma.head] if addition else None
        for name, asked in (("cold", split.cold_test), ("warm", split.warm_test)):
            added = None
            if addition:
                added = NearHistory.to(asked.contexts, near, model.device).times(gamma.of(asked.contexts))
            rank = ranks(model, asked.contexts, asked.targets, asked.exclude, added)
            row[name] = {metric: float(value.mean()) for metric, value in per_user(rank).items() if metric in SHOWN}
            row[name] |= {"users": len(rank), "median": float(np.median(rank))}
            if name == "warm":
                best, _ = top_k(model, asked.contexts, 10, asked.exclude, added=added)
                row["shown"] = float(split.cold[best].mean())
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print("| table | drawn | cold H@10 | cold N@10 | median rank | warm H@10 | warm N@10 | cold in the top 10 |")
    print("| --- | --- |" + " ---: |" * 6)
    for arm, drawn in dict.fromkeys((row["arm"], row["drawn"]) for row in rows):
        own = [row for row in rows if (row["arm"], row["drawn"]) == (arm, drawn)]
        cells = [spread([row["cold"][metric] for row in own]) for metric in SHOWN]
        cells.append(f"{fmean(row['cold']['median'] for row in own):,.0f}")
        cells += [spread([row["warm"][metric] for row in own]) for metric in SHOWN]
        cells.append(f"{fmean(row['shown'] for row in own):.2%}")
        print(f"| {arm} | {drawn} | " + " | ".join(cells) + " |", flush=True)


def spread(values: list[float]) -> str:
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_gift_cards_2018")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--drawn", default="all,seen")
    given = parser.parse_args()
    split = Split.of(given.data, given.dataset, given.share)
    config = Recommender(backbone=given.backbone)
    print(
        f"{given.dataset}, {given.backbone}: {int(split.cold.sum())} of {len(split.cold) - 1:,} items cold, "
        f"{len(split.cold_test.targets):,} users asked for one, {len(split.warm_test.targets):,} for another\n",
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    for table in given.tables.split(","):
        for drawn in given.drawn.split(","):
            for seed in map(int, given.seeds.split(",")):
                about = [given.dataset, given.share, table, drawn, seed, config.model_dump(mode="json")]
                digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
                folder = environment.home() / "benchmarks" / "cold" / digest
                if not (folder / "figures.json").exists():
                    found = figures(split, config, table, drawn, seed, folder)
                    (folder / "figures.json").write_text(json.dumps(found), encoding="utf-8")
                rows += json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    show(rows)


if __name__ == "__main__":
    main()
