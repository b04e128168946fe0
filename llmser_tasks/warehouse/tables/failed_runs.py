"""Runs that failed: what their row says, who has to be told, and how they are taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable
from llmser_tasks.warehouse.tables import failures, notices
from llmser_tasks.warehouse.tables.failures import Failure
from llmser_tasks.warehouse.tables.notices import Notice


@dataclass(frozen=True)
class Open:
    """A run that may have ended without our hearing of it.

    Attributes:
        still: nothing of it has moved for a day.
    """

    run_id: str
    dataset: str
    still: bool


_UNTOLD = text("""
    select run_id, dataset, coalesce(greatest(started_at, taken_up_at, finished_at, (
               select max(updated_at) from steps s where s.run_id = r.run_id
           )) < now() - interval '1 day', false)
    from runs r
    where owner is null and (state = 'running' or (state = 'failed' and not exists (
        select from notices n where n.run_id = r.run_id and n.occasion = r.attempt::text
    )))
    union all
    select run_id, coalesce(max(dataset), ''), max(failed_at) < now() - interval '1 day' from failures f
    where not exists (select from runs r where r.run_id = f.run_id)
      and not exists (select from notices n where n.run_id = f.run_id and n.made_at >= f.failed_at)
    group by run_id
""")


def fail(
    warehouse: Warehouse,
    run_id: str,
    message: str,
    failure: str | None = None,
    *,
    task: str = failures.RUN,
    part: int = -1,
) -> None:
    """Mark the run as failed: `failed`, of which a sentence and its kind are known."""
    failed(warehouse, run_id, Failure(task, part, failure, message))


def failed(warehouse: Warehouse, run_id: str, failure: Failure, dataset: str | None = None) -> None:
    """Mark the run as failed, and let its message sum up all that has failed of it."""
    with transaction(warehouse) as connection:
        _lock(connection, run_id)
        failures.note(connection, run_id, failure, dataset)
        _sum_up(connection, run_id, failures.of_run(connection, run_id))


def ended_badly(
    warehouse: Warehouse, run_id: str, *, dataset: str = "", ended: datetime | None = None, word: str = ""
) -> None:
    """Note that a run has failed and nothing of it goes on, and have people told, once each time.

    Args:
        dataset: where the run failed before it was noted.
        ended: when Airflow saw it end; a run that was taken up since is left alone.
        word: what is said where no task said why.
    """
    with transaction(warehouse) as connection:
        row = _lock(connection, run_id)
        if row is not None and (row.state == "succeeded" or (ended and row.taken_up_at and row.taken_up_at > ended)):
            return
        why = failures.of_run(connection, run_id)
        if row is not None and row.state == "failed" and not why:  # before failures were kept task by task
            why = [Failure(failures.RUN, -1, row.failure, row.message or failures.WITHOUT_A_WORD)]
        if not why:
            killed = Failure(failures.RUN, -1, failures.KILLED, word or failures.WITHOUT_A_WORD)
            failures.note(connection, run_id, killed, dataset)
            why = failures.of_run(connection, run_id)
        if row is not None:
            _sum_up(connection, run_id, why)
        spent = why[0].kind == failures.BUDGET
        notices.add(
            connection,
            Notice(
                run_id,
                "budget reached" if spent else "run failed",
                str(row.attempt) if row is not None else str(max(each.failed_at for each in why if each.failed_at)),
                row.dataset if row is not None else dataset,
                failures.sentence(why),
                f"`llmser rerun-failed {run_id}` reruns what failed{' once the budget is higher' if spent else ''}.",
            ),
        )


def untold(warehouse: Warehouse) -> list[Open]:
    """Airflow's runs that go on, or that failed without a notice of it as yet."""
    with transaction(warehouse) as connection:
        return [Open(*row) for row in connection.execute(_UNTOLD)]


def take_up(warehouse: Warehouse, run_id: str, since: datetime) -> None:
    """Mark the run as running again, if it failed before it was taken up at this time; a later failure stays."""
    with transaction(warehouse) as connection:
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null,"
                " taken_up_at = :since, attempt = attempt + 1"
                " where run_id = :run and state = 'failed' and finished_at < :since"
            ),
            {"run": run_id, "since": since},
        )


def _lock(connection: Connection, run_id: str) -> Any:
    """The run's row, which nobody else changes before the end of the transaction; None where it was never noted."""
    return connection.execute(
        text(
            "select state, dataset, attempt, taken_up_at, failure, message from runs where run_id = :run"
            " for no key update"
        ),
        {"run": storable(run_id)},
    ).one_or_none()


def _sum_up(connection: Connection, run_id: str, why: Sequence[Failure]) -> None:
    connection.execute(
        text(
            "update runs set state = 'failed', message = :message, failure = :failure, finished_at = now()"
            " where run_id = :run"
        ),
        {"run": storable(run_id), "message": failures.sentence(why), "failure": why[0].kind},
    )
