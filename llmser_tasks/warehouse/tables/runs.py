"""Runs: one row each, from start to its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks import __version__
from llmser_tasks.core.config import BEFORE_THERE_WAS
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.liveness import LOCKS
from llmser_tasks.warehouse.rows import storable, storable_json
from llmser_tasks.warehouse.tables import failures

RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~:+-]{0,249}")  # Airflow's, which makes manual__2026-01-01T00:00:00+00:00
TAKEN = "latest"  # means the latest run on the command line


@dataclass(frozen=True)
class RunRow:
    """A run as recorded. `config` holds flat names, see `config.from_flat`.

    Attributes:
        state: running, succeeded, failed; or interrupted, where its process ended without a word.
        message: why it failed, as `failures.sentence` puts it.
    """

    run_id: str
    dataset: str
    config: dict[str, Any]
    state: str
    synthetic: bool
    message: str | None
    started_at: datetime
    finished_at: datetime | None
    failure: str | None = None  # its kind, see `failures.KINDS`
    taken_up_at: datetime | None = None  # after it had failed
    refreshes: str | None = None  # the run that it started from
    unpublished: str | None = None  # why readers were not given it
    chosen: str | None = None  # the method whose recommendations it has

    @property
    def settings(self) -> dict[str, Any]:
        """`config`, with what the run did where it was recorded before there was a setting for it."""
        return {**BEFORE_THERE_WAS, **self.config}


def usable(warehouse: Warehouse, run_id: str) -> None:
    """
    Raises:
        InputError: no run may be called this, and none is, from before names were checked.
    """
    try:
        check_id(run_id)
    except InputError:
        with transaction(warehouse) as connection:
            there = text("select exists (select from runs where run_id = :run)")
            if not connection.scalar(there, {"run": storable(run_id)}):
                raise


def check_id(run_id: str) -> None:
    """
    Raises:
        InputError: no new run may be called this.
    """
    if RUN_ID.fullmatch(run_id) and run_id != TAKEN:
        return
    shown = "".join(c if c.isprintable() else "\ufffd" for c in run_id[:40]) + ("…" if len(run_id) > 40 else "")
    raise InputError(
        f"A run cannot be called “{shown}”: 1 to 250 letters, digits and any of _ . ~ : + -, the first one a letter,"
        f" a digit or _, and not “{TAKEN}”."
    )


def create(
    warehouse: Warehouse,
    run_id: str,
    dataset: str,
    config: Mapping[str, Any],
    *,
    synthetic: bool = False,
    budget: float | None = None,
    refreshes: str | None = None,
    owner: int | None = None,
) -> None:
    """Insert the run; one that is there already (a rerun) is set back to running, keeps its budget and refreshes the
    same run as before.

    Args:
        owner: number of the process that runs it, which is `living`; None: Airflow does.

    Raises:
        InputError: it is there with other settings, or somebody else is at work on it.
    """
    given = {"run": run_id, "dataset": dataset, "config": storable_json(config), "synthetic": synthetic}
    with transaction(warehouse) as connection:
        same = connection.scalar(
            text(
                "insert into runs (run_id, dataset, config, synthetic, budget, code_version, refreshes, owner)"
                " values (:run, :dataset, cast(:config as jsonb), :synthetic, :budget, :version, :refreshes, :owner)"
                " on conflict (run_id) do update set run_id = excluded.run_id"
                " returning cast(:before as jsonb) || config = cast(:before as jsonb) || cast(:config as jsonb)"
            ),
            given
            | {"version": __version__, "budget": budget, "refreshes": refreshes, "owner": owner}
            | {"before": storable_json(BEFORE_THERE_WAS)},
        )
        if not same:
            raise InputError(f"Run {run_id} exists with other settings; choose another run id.")
        _refuse_shared(connection, run_id, owner)
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null, owner = :owner,"
                " attempt = attempt + (state = 'failed')::integer where run_id = :run"
            ),
            given | {"owner": owner},
        )
        connection.execute(
            text("delete from failures where run_id = :run and task = :task"), given | {"task": failures.RUN}
        )


def _refuse_shared(connection: Connection, run_id: str, owner: int | None) -> None:
    """
    Raises:
        InputError: another process, or Airflow, is at work on the run.
    """
    row = connection.execute(
        text(
            "select owner, state, owner is not null and owner_lives(:locks, owner) as lives from runs"
            " where run_id = :run"
        ),
        {"run": run_id, "locks": LOCKS},
    ).one()
    if row.owner == owner:
        return
    whose = "Another process" if row.lives else "Airflow" if row.owner is None and row.state == "running" else None
    if whose:
        raise InputError(
            f"{whose} is at work on run {run_id}; wait for its end, or choose another run id: what is finished is not"
            " made again."
        )


def load(warehouse: Warehouse, run_id: str) -> RunRow:
    """The run of this id.

    Raises:
        InputError: there is none.
    """
    with transaction(warehouse) as connection:
        row = connection.execute(
            text(
                "select run_id, dataset, config, run_state(state, owner), synthetic,"
                " run_message(state, owner, message), started_at, finished_at, failure,"
                " taken_up_at, refreshes, unpublished, chosen from runs where run_id = :run"
            ),
            {"run": storable(run_id)},
        ).one_or_none()
    if row is None:
        raise InputError(f"There is no run {run_id!r}; `llmser show runs` lists them.")
    return RunRow(*row)


def latest(warehouse: Warehouse, dataset: str | None = None) -> RunRow:
    """The run started last, of all or of one dataset.

    Raises:
        InputError: there is none yet.
    """
    with transaction(warehouse) as connection:
        run_id = connection.scalar(
            text(
                "select run_id from runs where dataset = coalesce(cast(:dataset as text), dataset)"
                " order by started_at desc, run_id desc limit 1"
            ),
            {"dataset": dataset},
        )
    if run_id is None:
        raise InputError("There is no run yet; start one with `llmser run` or `llmser trigger`.")
    return load(warehouse, run_id)


def mark_synthetic(connection: Connection, run_id: str) -> None:
    """Note that the run's dumps were made up (the sample)."""
    connection.execute(text("update runs set synthetic = true where run_id = :run"), {"run": run_id})


def set_budget(warehouse: Warehouse, run_id: str, budget: float | None) -> None:
    """What the run may spend in all from now on; None: as much as it takes."""
    with transaction(warehouse) as connection:
        connection.execute(
            text("update runs set budget = :budget where run_id = :run"), {"run": run_id, "budget": budget}
        )


def spending(warehouse: Warehouse, run_id: str) -> tuple[float, float | None]:
    """What the run has spent on questions, as far as prices are known, and its budget."""
    with transaction(warehouse) as connection:
        row = connection.execute(
            text(
                "select (select coalesce(sum(coalesce(cost, 0) + lost), 0) from batches b where b.run_id = r.run_id),"
                " budget from runs r where run_id = :run"
            ),
            {"run": run_id},
        ).one()
    return float(row[0]), row[1]


def askable(warehouse: Warehouse, run_id: str) -> dict[str, Any] | None:
    """Of how many users the run's steps can ask (see `asking.askable`), as its step `sequences` found."""
    statement = text("select summary -> 'askable' from steps where run_id = :run and step = 'sequences'")
    with transaction(warehouse) as connection:
        found: dict[str, Any] | None = connection.scalar(statement, {"run": storable(run_id)})
    return found


def note_tail_threshold(warehouse: Warehouse, run_id: str, threshold: int) -> None:
    """T: costs are reported apart for users above it and below."""
    with transaction(warehouse) as connection:
        statement = text("update runs set tail_threshold = :threshold where run_id = :run")
        connection.execute(statement, {"run": run_id, "threshold": threshold})


def finish(connection: Connection, run_id: str) -> None:
    """Mark the run as succeeded, in the transaction that publishes its results."""
    connection.execute(
        text(
            "update runs set state = 'succeeded', message = null, failure = null, finished_at = now()"
            " where run_id = :run"
        ),
        {"run": run_id},
    )
