"""What a run says of all that failed of it, and that nothing of it goes unheard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import errors as llm
from llmser_tasks.llm.fleet.budget import BudgetSpent
from llmser_tasks.runs.reconcile import reconcile
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages import overview, progress
from llmser_tasks.warehouse.tables import acceptance, batches, failed_runs, failures, runs
from llmser_tasks.warehouse.tables.failures import KINDS, Failure, of_error

ARREARS = "LLM endpoint glm says that its account has no quota left; top it up, then rerun."
HTTP = "1 of 32 unanswered: 1 × server error; a rerun asks only for these. HTTP 503."


@pytest.fixture
def run(warehouse: Warehouse) -> Warehouse:
    runs.create(warehouse, "r", "beauty", {})
    return warehouse


def fail(warehouse: Warehouse, task: str, part: int, kind: str | None, message: str, **users: int) -> None:
    counted = {name.replace("_", " "): number for name, number in users.items()}
    failed_runs.failed(warehouse, "r", Failure(task, part, kind, message, counted))


def test_a_message_sums_up_all_failures_the_cause_to_act_on_first(run: Warehouse) -> None:
    fail(run, "snf", 3, "quota", ARREARS, quota=16)
    for batch, kind in ((0, "unanswered"), (7, "unanswered"), (9, "server error")):
        fail(run, "snf", batch, kind, HTTP, server_error=1)
    row = runs.load(run, "r")
    assert row.message == f"4 batches, 19 users: 16 no quota, 3 server error. {ARREARS}"
    assert (row.state, row.failure) == ("failed", "quota")
    told = progress.run(run, "r")["message"], overview.datasets(run)[0]["message"], overview.runs(run)[0]["message"]
    assert set(told) == {row.message}, "the page says the same"
    with queries.read(run, "runs", "") as found:
        assert next(iter(found.rows))[found.columns.index("message")] == row.message


def test_of_one_failure_its_own_sentence_is_said(run: Warehouse) -> None:
    fail(run, "snf", 3, "quota", ARREARS, quota=16)
    assert runs.load(run, "r").message == ARREARS


def test_other_tasks_are_named(run: Warehouse) -> None:
    fail(run, "train_base", 0, None, "ZeroDivisionError; see the log.")
    fail(run, "train_base", 1, None, "ZeroDivisionError; see the log.")
    fail(run, "reason", 2, "storage", "Postgres is away; rerun.")
    assert runs.load(run, "r").message == ("2 × train_base, 1 batch: 1 storage, 2 other. Postgres is away; rerun.")


def test_a_task_that_begins_anew_takes_back_its_failure_and_no_other(run: Warehouse) -> None:
    fail(run, "snf", 0, "quota", ARREARS, quota=16)
    fail(run, "snf", 1, "server error", HTTP, server_error=1)
    failed_runs.take_up(run, "r", datetime.now(UTC) + timedelta(hours=1))
    assert runs.load(run, "r").message is None
    failures.forget(run, "r", "snf", 0)
    failed_runs.ended_badly(run, "r")
    assert runs.load(run, "r").message == HTTP, "this one was not cleared"


def test_that_a_task_was_killed_does_not_hide_what_it_said(run: Warehouse) -> None:
    fail(run, "snf", 0, "quota", ARREARS)
    failed_runs.failed(run, "r", of_error(None, "snf", 0))
    assert runs.load(run, "r").message == ARREARS
    failed_runs.failed(run, "r", of_error(None, "snf", 1))
    assert runs.load(run, "r").message == f"2 batches: 1 no quota, 1 killed. {ARREARS}"


def test_every_kind_of_the_llm_has_its_words() -> None:
    kinds = [llm.LlmError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    acted_on = [kind.kind for kind in kinds if issubclass(kind, llm.EndpointFatal) and kind.kind != "error"]
    assert BudgetSpent.kind == failures.BUDGET
    order = list(KINDS)
    assert all(order.index(kind) < order.index("input") for kind in acted_on), "a person has to act on these"
    passing = {kind.kind for kind in kinds if issubclass(kind, llm.Retriable)} - {"error"}
    assert passing <= set(order)


def test_going_on_without_users_keeps_why_they_have_no_answer(run: Warehouse) -> None:
    where = (run, batches.Account("r", "snf", 0), "users 0–9", 10)
    batches.record(*where, batches.Standing("failed", answered=7, failed=3, message=ARREARS))
    acceptance.accept(run, "r")
    batches.record(*where, batches.Standing("running"))
    batches.record(
        *where,
        batches.Standing("done", answered=7, failed=3, accepted=3, message="3 users accepted without an answer."),
    )
    expected = f"3 users accepted without an answer. It had failed: {ARREARS}"
    assert progress.run(run, "r")["batches"][0]["message"] == expected
    acceptance.revoke(run, "r")
    assert progress.run(run, "r")["batches"][0]["message"].endswith(f"It had failed: {ARREARS}")
    batches.record(*where, batches.Standing("done", answered=10))
    assert progress.run(run, "r")["batches"][0]["message"] is None


# What Airflow knows and the warehouse has not heard


class Airflow:
    """Run id → state, as a task may count them."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.asked = 0

    def __call__(self, run_ids: list[str], states: list[str] | None) -> int:
        self.asked += 1
        return sum(r in self.states and (states is None or self.states[r] in states) for r in run_ids)


def notices(warehouse: Warehouse) -> list[tuple[str, str]]:
    with transaction(warehouse) as connection:
        return [(row[0], row[1]) for row in connection.execute(text("select run_id, sentence from notices order by 1"))]


def test_a_failure_that_nobody_noted_is_noted_and_told_once(run: Warehouse) -> None:
    assert reconcile(run, Airflow(r="failed")) == ["r"]
    row = runs.load(run, "r")
    assert (row.state, row.message) == ("failed", "A task ended without a word, as if killed; rerun it.")
    assert notices(run) == [("r", row.message)]
    assert reconcile(run, Airflow(r="failed")) == []
    assert notices(run) == [("r", row.message)]


def test_a_failure_that_was_noted_and_not_told_is_told(run: Warehouse) -> None:
    fail(run, "snf", 0, "quota", ARREARS)
    assert reconcile(run, Airflow(r="running")) == [], "other batches are at work"
    assert reconcile(run, Airflow(r="failed")) == ["r"]
    assert notices(run) == [("r", ARREARS)]


def test_a_run_that_failed_before_it_was_noted_is_told(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        failures.note(connection, "r", Failure("start", -1, "input", "pool must be 1 or more."), "beauty")
    assert reconcile(warehouse, Airflow(r="failed")) == ["r"]
    assert reconcile(warehouse, Airflow(r="failed")) == []
    assert notices(warehouse) == [("r", "pool must be 1 or more.")]


def test_a_run_marked_as_a_success_by_hand_is_none(run: Warehouse) -> None:
    assert reconcile(run, Airflow(r="success")) == ["r"]
    assert "its results were never published" in str(runs.load(run, "r").message)


def test_a_run_that_airflow_does_not_know_is_left_alone_while_it_moves(run: Warehouse) -> None:
    assert reconcile(run, Airflow()) == []
    with transaction(run) as connection:
        connection.execute(text("update runs set started_at = now() - interval '2 days'"))
    assert reconcile(run, Airflow()) == ["r"]
    assert "Airflow knows no such run any more" in str(runs.load(run, "r").message)


def test_looking_is_cheap_where_all_goes_on(warehouse: Warehouse) -> None:
    airflow = Airflow()
    assert reconcile(warehouse, airflow) == [] and airflow.asked == 0
    for number in range(5):
        runs.create(warehouse, f"r{number}", "beauty", {})
        airflow.states[f"r{number}"] = "running" if number else "queued"
    assert reconcile(warehouse, airflow) == [] and airflow.asked == 1


def test_runs_of_a_process_are_none_of_airflows(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "beauty", {}, owner=7)
    assert runs.load(warehouse, "r").state == "interrupted", "nobody holds this lock"
    failed_runs.fail(warehouse, "r", "It failed.")
    assert reconcile(warehouse, Airflow()) == [] and notices(warehouse) == []
