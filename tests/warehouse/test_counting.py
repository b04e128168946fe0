"""What is counted of a run's answers when statistics know nothing of the run yet."""

from __future__ import annotations

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import runs

ROWS = (
    "insert into picks select :run, 'snf', 'user-' || u, :run || u, 1, array['item-1'], array['strict'], null, 0"
    " from generate_series(1, :users) u",
    "insert into reliability select :run, 'user-' || u, 1, 'item-1', 'one', 'item-1', 'one', 'strict', .5, .5, null,"
    " 'hash' from generate_series(1, :users) u",
    "insert into answers (question_key, step, prompt_version, model, answered_by, content, prompt_tokens,"
    " completion_tokens, cost, attempts, run_id)"
    " select :run || u, 'snf', '1', 'llm', 'llm', '{}', 800, 20, 0, 1, :run from generate_series(1, :users) u",
)


def fill(connection: Connection, run_id: str, users: int) -> None:
    for statement in ROWS:
        connection.execute(text(statement), {"run": run_id, "users": users})


def test_no_pick_is_compared_with_every_score(warehouse: Warehouse) -> None:
    for run_id in ("earlier", "new"):
        runs.create(warehouse, run_id, "tiny", {})
    with transaction(warehouse) as connection:
        fill(connection, "earlier", 500)
        connection.execute(text("analyze"))
        fill(connection, "new", 2000)
        given = connection.scalar(text("select proconfig from pg_proc where proname = 'count_answers'"))
        for setting in given or ():
            connection.execute(text(f"set local {setting}"))
        plan = connection.scalars(text("explain select * from user_group_costs where run_id = 'new'")).all()
        assert not any("Join Filter" in line for line in plan), "\n".join(plan)

        connection.execute(text("select count_answers('new')"))
        counted = connection.execute(text("select users, answers_paid from counted_group_costs")).all()
    assert [tuple(map(int, row)) for row in counted] == [(2000, 2000)]
