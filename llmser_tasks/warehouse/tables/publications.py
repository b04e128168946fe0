"""What readers are given: of each dataset one published run, which one insert exchanges for another.

`publications` is a log of these switches. Whoever reads `current_recommendations`, `current_metrics` … sees, in one
statement, the run before the switch or the one after it; in several statements, if they are one transaction of
isolation level repeatable read (Postgres's ordinary one looks anew for each statement). There are such views of all
that a run writes in the transaction that publishes it, and of nothing that it writes earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, reported
from llmser_tasks.core.names import why_chosen
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.queries import Rows, stream
from llmser_tasks.warehouse.rows import storable
from llmser_tasks.warehouse.tables import studies
from llmser_tasks.warehouse.tables.runs import RunRow, load

BY_HAND = "`llmser publish {run}` publishes it all the same."


@dataclass(frozen=True)
class Publication:
    """The run that readers of a dataset are given.

    Attributes:
        how: run (by itself), hand (`llmser publish`), rollback.
        validation: NDCG@10 of its LLMSeR on validation items; None where the run is older than this record.
    """

    dataset: str
    run_id: str
    version: int
    how: str
    published_at: datetime
    validation: float | None


@dataclass(frozen=True)
class Chosen:
    """The method whose recommendations a run has.

    Attributes:
        validation: its NDCG@10 on validation items, mean over the seeds.
        by: validation (it is the best by that) or name (the run says so).
    """

    method: str
    validation: float
    by: str


@dataclass(frozen=True)
class KeptBack:
    """A run that readers are not given.

    Attributes:
        by: ablation (it leaves out parts of the method), study (it is a cell of one), older (the published run was
            started later), gate.
        why: one sentence.
        then: what a person can do.
    """

    by: Literal["ablation", "study", "older", "gate"]
    why: str
    then: str

    @property
    def told(self) -> str:
        return f"{self.why} {self.then}"


def current(warehouse: Warehouse, dataset: str) -> Publication | None:
    """What readers of a dataset are given now; None: nothing was ever published."""
    with transaction(warehouse) as connection:
        return _current(connection, dataset)


def datasets(warehouse: Warehouse) -> set[str]:
    """Those that have a published run."""
    with transaction(warehouse) as connection:
        return set(connection.scalars(text("select dataset from current_runs")))


def conclude(
    connection: Connection, run_id: str, chosen: Chosen, *, gate: float | None, ablation: bool
) -> KeptBack | None:
    """Within the transaction that writes a run's results: give it to the readers, or note why not.

    It is kept from them where it leaves out parts of a method, where it is a cell of a study, where the published run
    was started later (what runs late must not undo what is newer), and where its validation metric is below the
    published run's by more than the gate allows. The same method is compared, where the published run has it; else what
    readers are given by either. The run that is published already stays so.

    Args:
        chosen: whose recommendations the run has.
        gate: share of the published run's metric by which it may fall; None: any.

    Returns:
        Why it is not published; None where it is.
    """
    run = connection.execute(
        text(
            "update runs set validation = :validation, chosen = :method, chosen_by = :by where run_id = :run"
            " returning dataset, started_at"
        ),
        {"run": run_id, "validation": chosen.validation, "method": chosen.method, "by": chosen.by},
    ).one()
    _only_one(connection, run.dataset)
    now = _current(connection, run.dataset)
    kept_back = None
    if now is None or now.run_id != run_id:
        kept_back = _standing_against(connection, run_id, run.started_at, ablation, now) or _below(
            connection, run_id, chosen, gate, now
        )
        if kept_back is None:
            _switch(connection, run.dataset, run_id, "run")
    noted = text("update runs set unpublished = :why where run_id = :run")
    connection.execute(noted, {"run": run_id, "why": kept_back and storable(kept_back.told)})
    return kept_back


def publish(warehouse: Warehouse, run_id: str) -> Publication:
    """Give a run to the readers by hand, whatever the gate said.

    Raises:
        InputError: there is no such run, or it has no results.
    """
    row = load(warehouse, run_id)
    _has_results(row)
    return _give(warehouse, row.dataset, row.run_id, "hand")


def rollback(warehouse: Warehouse, dataset: str, to: str | None = None) -> Publication:
    """Give readers a run again that they had before.

    Args:
        to: which one; None: the one that was first published before the current one. So repeated rollbacks go further
            back, and do not return.

    Raises:
        InputError: nothing is published, there was nothing before, or `to` was never published.
    """
    with transaction(warehouse) as connection:
        _only_one(connection, dataset)
        now = _current(connection, dataset)
        if now is None:
            raise InputError(f"Nothing of dataset {dataset!r} is published; `llmser published` lists what is.")
        first = connection.execute(
            text(
                "select run_id, min(version) as version from publications where dataset = :dataset"
                " group by run_id order by version"
            ),
            {"dataset": dataset},
        ).all()
        runs = [row.run_id for row in first]
        if to is None:
            place = runs.index(now.run_id)
            if place == 0:
                raise InputError(f"Nothing of dataset {dataset} was published before run {now.run_id}.")
            to = runs[place - 1]
        elif to not in runs:
            raise InputError(
                f"Run {to!r} of dataset {dataset} was never published; these were: {', '.join(runs)}. "
                "`llmser publish RUN` publishes another one."
            )
        if to != now.run_id:
            _switch(connection, dataset, to, "rollback")
        found = _current(connection, dataset)
    assert found is not None
    return found


@contextmanager
def listed(warehouse: Warehouse, dataset: str | None = None) -> Iterator[Rows]:
    """The switches of a dataset, or of all, newest first, with the method that each run recommends by, and why."""
    statement = text(
        "select p.dataset, p.version, case when c.version = p.version then '*' else '' end as now, p.run_id, p.how,"
        " p.published_at, r.validation, r.chosen as method, r.chosen_by as why, (select jsonb_object_agg(v.method,"
        " v.ndcg) from validations v where v.run_id = p.run_id) from publications p join runs r using (run_id)"
        " join current_runs c on c.dataset = p.dataset where p.dataset = coalesce(cast(:dataset as text), p.dataset)"
        " order by p.dataset, p.version desc"
    )
    with stream(warehouse, statement.bindparams(dataset=dataset and storable(dataset))) as found:
        rows = ((*row[:-2], _why(*row[-2:])) for row in found.rows)
        yield Rows(found.columns[:-1], found.types[:-1], rows)


def _why(by: str | None, validation: Mapping[str, float] | None) -> str | None:
    """Why a run recommends by its method; None: it is older than this record."""
    if by is None:
        return None
    figures = validation or {}
    in_order = [*(name for name in reported() if name in figures), *(name for name in figures if name not in METHODS)]
    return why_chosen(by, {name: figures[name] for name in in_order})


def _give(warehouse: Warehouse, dataset: str, run_id: str, how: str) -> Publication:
    with transaction(warehouse) as connection:
        _only_one(connection, dataset)
        now = _current(connection, dataset)
        if now is None or now.run_id != run_id:
            _switch(connection, dataset, run_id, how)
        connection.execute(text("update runs set unpublished = null where run_id = :run"), {"run": run_id})
        found = _current(connection, dataset)
    assert found is not None
    return found


def _has_results(row: RunRow) -> None:
    if row.state != "succeeded":
        why = f": {row.message}" if row.message else ""
        raise InputError(f"Run {row.run_id} has no results to publish, it is {row.state}{why}")


def _standing_against(
    connection: Connection, run_id: str, started_at: datetime, ablation: bool, now: Publication | None
) -> KeptBack | None:
    """Why readers are not given a run, whatever its figures."""
    if ablation:
        why = f"Run {run_id} is not published, because it leaves out parts of the method."
        return KeptBack("ablation", why, BY_HAND.format(run=run_id))
    if study := studies.study_of(connection, run_id):
        why = f"Run {run_id} is not published, because it is a cell of the study {study}."
        return KeptBack("study", why, BY_HAND.format(run=run_id))
    if now is None:
        return None
    newer = connection.scalar(
        text("select started_at > :mine from runs where run_id = :run"), {"run": now.run_id, "mine": started_at}
    )
    if newer:
        why = f"Run {run_id} is not published, because run {now.run_id}, which is, was started later."
        return KeptBack("older", why, BY_HAND.format(run=run_id))
    return None


def _below(
    connection: Connection, run_id: str, chosen: Chosen, gate: float | None, now: Publication | None
) -> KeptBack | None:
    """The gate: like is compared with like."""
    if now is None or gate is None:
        return None
    same = text("select ndcg from validations where run_id = :run and method = :method")
    of_method = connection.scalar(same, {"run": now.run_id, "method": chosen.method})
    before = now.validation if of_method is None else of_method
    if before is None or chosen.validation >= (1 - gate) * before:
        return None
    fall = 1 - chosen.validation / before
    whose = "" if of_method is None else f" of {METHODS[chosen.method].title}"
    why = (
        f"Run {run_id} is not published: its validation NDCG@10{whose} of {chosen.validation:.4f} is {fall:.1%} below "
        f"the {before:.4f} of run {now.run_id}, which readers keep; the gate allows {gate:.1%}."
    )
    return KeptBack("gate", why, BY_HAND.format(run=run_id))


def _switch(connection: Connection, dataset: str, run_id: str, how: str) -> None:
    connection.execute(
        text(
            "insert into publications (dataset, version, run_id, how)"
            " select :dataset, coalesce(max(version), 0) + 1, :run, :how from publications where dataset = :dataset"
        ),
        {"dataset": dataset, "run": run_id, "how": how},
    )


def _current(connection: Connection, dataset: str) -> Publication | None:
    row = connection.execute(
        text(
            "select dataset, run_id, version, how, published_at, validation from current_runs where dataset = :dataset"
        ),
        {"dataset": storable(dataset)},
    ).one_or_none()
    return None if row is None else Publication(*row)


def _only_one(connection: Connection, dataset: str) -> None:
    """Who switches a dataset waits here until nobody else does."""
    lock = text("select pg_advisory_xact_lock(hashtext('llmser publications'), hashtext(:dataset))")
    connection.execute(lock, {"dataset": storable(dataset)})
