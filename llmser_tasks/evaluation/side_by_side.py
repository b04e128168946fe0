"""Several runs in one table, as papers print them: mean ± sd over seeds, and what is more than chance.

Everything is computed anew from each user's ranks, which every run's evaluation keeps (ranks.parquet). A user's metric,
averaged over the seeds, is compared with the same user's in the reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.core.config import parameters
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import METHODS, REFERENCE
from llmser_tasks.evaluation.groups import Mask, groups
from llmser_tasks.evaluation.metrics import METRICS, Ranks, per_user
from llmser_tasks.evaluation.protocols import Cases, cases
from llmser_tasks.evaluation.significance import PairedTest, judged
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.warehouse.tables.artefacts import StoredRun

SHOWN = ("all", "tail users", "head users")
# Settings that change no figure, or have columns of their own.
SILENT = {
    "dataset", "reviews", "items", "backbone", "methods", "publish", "seeds", "recommendations", "users_per_batch",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Row:
    """One method of one run.

    Attributes:
        settings: those in which it differs from the other runs, name → value.
        ranks: seed → (U,) ranks.
    """

    run_id: str
    backbone: str
    method: str
    settings: Mapping[str, Any]
    ranks: Mapping[int, Ranks]

    @property
    def label(self) -> str:
        return f"{self.run_id}:{self.method}"


@dataclass(frozen=True)
class Cell:
    """One metric of one row over one group of users, beside the reference's.

    Attributes:
        sd: sample standard deviation over seeds; None with one seed.
        test: of the mean over users of row − reference; None in the reference's own row, like all that follows.
        low, high, level: the interval of the difference and its level, the same for all cells of the table.
        p_holm: p of the paired t-test, corrected for all cells of the table.
        seeds: the fewest that the row and the reference were trained with.
        stars: none with one seed.
    """

    row: Row
    group: str
    users: int
    metric: str
    mean: float
    sd: float | None
    test: PairedTest | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    level: float | None = None
    seeds: int | None = None
    stars: str = ""


@dataclass(frozen=True)
class Asked:
    """The users a run was tested on, and the items they were tested against."""

    cases: Cases
    item_ids: Any  # pyarrow array (I,)
    counts: Any  # (I + 1,) training interactions of every item

    @classmethod
    def of(cls, run: StoredRun) -> Asked:
        training = Histories.read(run.folder("training") / "histories.parquet")
        item_ids = Catalogue.read(run.folder("catalogue")).item_ids
        test = read_targets(run.folder("test") / "targets.parquet")
        return cls(cases(training, test), item_ids, training.counts(len(item_ids)))

    def same_as(self, other: Asked) -> bool:
        one, two = self.cases, other.cases
        pairs = (
            (one.targets, two.targets),
            (one.contexts.users, two.contexts.users),
            (one.contexts.offsets, two.contexts.offsets),
            (one.contexts.items, two.contexts.items),
            (self.counts, other.counts),
        )
        return all(np.array_equal(a, b) for a, b in pairs) and bool(self.item_ids.equals(other.item_ids))


def compare_runs(
    runs: Sequence[StoredRun], *, protocol: str, names: Sequence[str], reference: str | None
) -> tuple[list[Cell], Row]:
    """Every method of every run; counters and references that are the same appear once.

    Args:
        runs: the runs; the first one's tail threshold T makes the groups.
        protocol: "full" or "uniform-100".
        names: groups of users; empty: all, tail and head users.
        reference: "RUN:METHOD", or a method of the first run; None: the first run's reference.

    Returns:
        The cells, by group, then row, then metric; and the reference.

    Raises:
        InputError: the runs were not tested on the same users and items, or a name is not there.
        StorageError: an artefact is gone.
    """
    first = runs[0]
    asked = Asked.of(first)
    for other in runs[1:]:
        if not asked.same_as(Asked.of(other)):
            raise InputError(
                f"Runs {first.row.run_id} and {other.row.run_id} were not tested on the same users, histories and "
                f"items (datasets {first.row.dataset}, {other.row.dataset}); compare runs of the same dumps, filters "
                "and split."
            )
    rows = _once([row for run in runs for row in _rows(run, runs, protocol, asked)])
    chosen = _reference(rows, first.row.run_id, reference)
    threshold = json.loads((first.folder("evaluation") / "facts.json").read_text(encoding="utf-8"))["tail_threshold"]
    masks = groups(asked.cases.n, asked.cases.targets, asked.counts, threshold)
    cells = [cell for group in _chosen(masks, names) for cell in _cells(rows, chosen, group, masks[group])]
    return _corrected(cells), chosen


def _rows(run: StoredRun, runs: Sequence[StoredRun], protocol: str, asked: Asked) -> list[Row]:
    """A run's methods, in the order of tables."""
    file = run.folder("evaluation") / "ranks.parquet"
    table = _named(pq.read_table(file, filters=[("protocol", "=", protocol)]))
    if not table.num_rows:
        there = pq.read_table(file, columns=["protocol"])["protocol"].unique().to_pylist()
        raise InputError(f"Run {run.row.run_id} was not evaluated by {protocol}; it has {' and '.join(there)}.")
    of_methods: dict[str, dict[int, Ranks]] = {}
    for (method, seed), of_seed in table.to_pandas().groupby(["method", "seed"], observed=True):
        # Only users who are tested: runs before 2026-11-22 also ranked items that users had before.
        ranks = of_seed.set_index("user")["rank"].loc[asked.cases.contexts.users].to_numpy()
        of_methods.setdefault(str(method), {})[int(seed)] = ranks
    run_id, backbone = run.row.run_id, str(run.row.config["backbone"])
    return [
        Row(run_id, backbone, method, _settings(run, runs, method), of_methods[method])
        for method in METHODS.sorted(name for name in of_methods if name in METHODS)
    ]


def _named(ranks: pa.Table) -> pa.Table:
    """Runs from before the column "method" called it "model"."""
    return ranks.rename_columns(["method" if name == "model" else name for name in ranks.column_names])


def _settings(run: StoredRun, runs: Sequence[StoredRun], method: str) -> dict[str, Any]:
    """What sets this run's method apart from the other runs' of the same backbone."""
    if not METHODS[method].trained:
        return {}
    needs = METHODS[method].needs  # what these were made with sets it apart, too
    every = {p.name: p for p in parameters() if p.name not in SILENT and (needs or p.section == "recommender")}

    def value(of: StoredRun, name: str) -> Any:
        default = every[name].default
        return of.row.config.get(name, list(default) if isinstance(default, tuple) else default)

    return {name: value(run, name) for name in every if any(value(run, name) != value(other, name) for other in runs)}


def _once(rows: Sequence[Row]) -> list[Row]:
    """Without the counters and references that an earlier run has too: tested twice, they would count twice."""
    kept: dict[Any, Row] = {}
    for row in rows:
        ranks = tuple((seed, values.tobytes()) for seed, values in row.ranks.items())
        method = METHODS[row.method]
        kept.setdefault(row.label if method.trained and method.needs else (row.method, ranks), row)
    return sorted(kept.values(), key=lambda row: bool(METHODS[row.method].trained))


def _reference(rows: Sequence[Row], first: str, wanted: str | None) -> Row:
    run_id, _, method = (wanted or REFERENCE).rpartition(":")  # run ids may hold colons, methods never
    label = f"{run_id or first}:{method}"
    found = next((row for row in rows if row.label == label), None)
    if found is None:
        raise InputError(f"There is no {label} to compare with; there are: {', '.join(row.label for row in rows)}.")
    return found


def _chosen(masks: Mapping[str, Mask], names: Sequence[str]) -> list[str]:
    """The groups to show, in the order asked for."""
    if unknown := [name for name in names if name not in masks]:
        raise InputError(f"There is no group {', '.join(map(repr, unknown))}; there are: {', '.join(masks)}.")
    return list(dict.fromkeys(names)) or [name for name in SHOWN if name in masks]


def _cells(rows: Sequence[Row], reference: Row, group: str, users: Mask) -> list[Cell]:
    """Every metric of every row over one group, not yet corrected."""
    averaged, of_seeds = [], []
    for row in rows:
        values = [np.stack(list(per_user(ranks[users]).values()), axis=1) for ranks in row.ranks.values()]
        averaged.append(np.mean(values, axis=0))  # (U, metrics)
        of_seeds.append(np.array([of_seed.mean(axis=0) for of_seed in values]))  # (seeds, metrics)
    beside = averaged[rows.index(reference)]
    cells = []
    for row, values, means in zip(rows, averaged, of_seeds, strict=True):
        for column, metric in enumerate(METRICS):
            sd = float(means[:, column].std(ddof=1)) if len(means) > 1 else None
            cell = Cell(row, group, int(users.sum()), metric, float(means[:, column].mean()), sd)
            if row is not reference:
                test = PairedTest.of(values[:, column] - beside[:, column])
                cell = replace(cell, test=test, seeds=min(len(row.ranks), len(reference.ranks)))
            cells.append(cell)
    return cells


def _corrected(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with what the tests say, corrected over all comparisons of the table."""
    tested = [(cell.test, cell.seeds) for cell in cells if cell.test is not None and cell.seeds is not None]
    said = iter(judged([test for test, _ in tested], [seeds for _, seeds in tested]))
    return [cell if cell.test is None else replace(cell, **next(said)) for cell in cells]
