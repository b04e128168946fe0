"""Runs: one row each, from start to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks import __version__
from llmser_tasks.errors import InputError
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable, storable_json


@dataclass(frozen=True)
class RunRow:
    """A run as recorded. `config` holds flat names, see `config.from_flat`."""

    run_id: str
    dataset: str
    config: dict[str, Any]
    state: str
    synthetic: bool
    message: str | None
    started_at: datetime
    finished_at: datetime | None
    failure: str | None = None  # its kind, where an endpoint was why: see llm.errors
    taken_up_at: datetime | None = None  # after it had failed
    refreshes: str | None = None  # the run that it started from
    unpublished: str | None = None  # why readers were not given it


def create(
    url: str,
    run_id: str,
    dataset: str,
    config: Mapping[str, Any],
    *,
    synthetic: bool = False,
    budget: float | None = None,
    refreshes: str | None = None,
) -> None:
    """Insert the run; one that is there already (a rerun) is set back to running, keeps its budget and refreshes the
    same run as before.

    Raises:
        InputError: it is there with other settings.
    """
    given = {"run": run_id, "dataset": dataset, "config": storable_json(config), "synthetic": synthetic}
    with transaction(url) as connection:
        same = connection.scalar(
            text(
                "insert into runs (run_id, dataset, config, synthetic, budget, code_version, refreshes)"
                " values (:run, :dataset, cast(:config as jsonb), :synthetic, :budget, :version, :refreshes)"
                " on conflict (run_id) do update set run_id = excluded.run_id"
                " returning config = cast(:config as jsonb)"
            ),
            given | {"version": __version__, "budget": budget, "refreshes": refreshes},
        )
        if not same:
            raise InputError(f"Run {run_id} exists with other settings; choose another run id.")
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null"
                " where run_id = :run"
            ),
            given,
        )


def load(url: str, run_id: str) -> RunRow:
    """The run of this id.

    Raises:
        InputError: there is none.
    """
    with transaction(url) as connection:
        row = connection.execute(
            text(
                "select run_id, dataset, config, state, synthetic, message, started_at, finished_at, failure,"
                " taken_up_at, refreshes, unpublished from runs where run_id = :run"
            ),
            {"run": storable(run_id)},
        ).one_or_none()
    if row is None:
        raise InputError(f"There is no run {run_id!r}; `llmser show runs` lists them.")
    return RunRow(*row)


def latest(url: str, dataset: str | None = None) -> RunRow:
    """The run started last, of all or of one dataset.

    Raises:
        InputError: there is none yet.
    """
    with transaction(url) as connection:
        run_id = connection.scalar(
            text(
                "select run_id from runs where dataset = coalesce(cast(:dataset as text), dataset)"
                " order by started_at desc, run_id desc limit 1"
            ),
            {"dataset": dataset},
        )
    if run_id is None:
        raise InputError("There is no run yet; start one with `llmser run` or `llmser trigger`.")
    return load(url, run_id)


def mark_synthetic(connection: Connection, run_id: str) -> None:
    """Note that the run's dumps were made up (the sample)."""
    connection.execute(text("update runs set synthetic = true where run_id = :run"), {"run": run_id})


def set_budget(url: str, run_id: str, budget: float | None) -> None:
    """From now on the run may spend so much in all; None: as much as it takes."""
    with transaction(url) as connection:
        connection.execute(
            text("update runs set budget = :budget where run_id = :run"), {"run": run_id, "budget": budget}
        )


def spending(url: str, run_id: str) -> tuple[float, float | None]:
    """What the run has spent on questions, as far as prices are known, and its budget."""
    with transaction(url) as connection:
        row = connection.execute(
            text(
                "select (select coalesce(sum(coalesce(cost, 0) + lost), 0) from batches b where b.run_id = r.run_id),"
                " budget from runs r where run_id = :run"
            ),
            {"run": run_id},
        ).one()
    return float(row[0]), row[1]


def note_tail_threshold(url: str, run_id: str, threshold: int) -> None:
    """T, by which costs are told apart."""
    with transaction(url) as connection:
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


def fail(url: str, run_id: str, message: str, failure: str | None = None) -> None:
    """Mark the run as failed, with the sentence that people read and the kind of failure."""
    with transaction(url) as connection:
        connection.execute(
            text(
                "update runs set state = 'failed', message = :message, failure = :failure, finished_at = now()"
                " where run_id = :run"
            ),
            {"run": run_id, "message": storable(message), "failure": failure},
        )


def take_up(url: str, run_id: str, since: datetime) -> None:
    """Mark the run as running again, if it failed before it was taken up at this time; a later failure stays."""
    with transaction(url) as connection:
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null,"
                " taken_up_at = :since where run_id = :run and state = 'failed' and finished_at < :since"
            ),
            {"run": run_id, "since": since},
        )
