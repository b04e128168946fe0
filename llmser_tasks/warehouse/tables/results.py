"""What a run's results are written beside: its row, who answered, what was asked and spent, the runs before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction


def locked(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """The run's row; a second publisher of the same run waits here until the first has committed."""
    statement = text("select synthetic, started_at from runs where run_id = :run for update")
    row = connection.execute(statement, {"run": run_id}).mappings().one_or_none()
    if row is None:
        raise InputError(f"There is no run {run_id!r} to publish; `llmser show runs` lists them.")
    return dict(row)


def answered_by(connection: Connection, run_id: str) -> dict[str, int]:
    statement = text(
        "select coalesce(a.answered_by, a.model) as name, count(*) as questions"
        " from answered p join answers a using (question_key)"
        " where p.run_id = :run and a.content is not null group by 1 order by 2 desc, 1"
    )
    return {row.name: row.questions for row in connection.execute(statement, {"run": run_id})}


def asked(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """Per step the users it was about, and of how many of them there was something to ask."""
    statement = text(
        "select step, count(*) as users, count(question_key) as asked from answered where run_id = :run"
        " group by step order by step desc"
    )
    return [dict(row) for row in connection.execute(statement, {"run": run_id}).mappings()]


def count_texts(connection: Connection, run_id: str) -> None:
    """Count what texts cost and were worth, where the run has any: of picks that was done when they were weighed."""
    statement = text(
        "select count_answers(run_id) from (select distinct run_id from user_texts where run_id = :run) written"
    )
    connection.execute(statement, {"run": run_id})


def costs(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    statement = text("select * from run_costs where run_id = :run order by step desc")
    return [dict(row) for row in connection.execute(statement, {"run": run_id}).mappings()]


def earlier_runs(warehouse: Warehouse, run_id: str, most: int) -> list[str]:
    """The last runs of the same dataset that were started before this one and succeeded, newest first."""
    statement = text(
        "select e.run_id from runs r join runs e on e.dataset = r.dataset and e.started_at < r.started_at"
        " where r.run_id = :run and e.state = 'succeeded' order by e.started_at desc limit :most"
    )
    with transaction(warehouse) as connection:
        return list(connection.scalars(statement, {"run": run_id, "most": most}))
