"""Which batches are accepted, which are not, and how people read it."""

from __future__ import annotations

import pytest

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.tables import acceptance, batches, runs


@pytest.fixture
def warehouse(warehouse: Warehouse) -> Warehouse:
    """A run with a batch that is done, one that failed, one that was killed, and one of Reason that failed."""
    for run_id in ("r", "other"):
        runs.create(warehouse, run_id, "sample", {})
        batches.record(
            warehouse, batches.Account(run_id, "snf", 0), "users 0–9", 10, batches.Standing("done", answered=10)
        )
        batches.record(
            warehouse,
            batches.Account(run_id, "snf", 1),
            "users 10–19",
            10,
            batches.Standing("failed", answered=7, failed=3),
        )
        batches.record(warehouse, batches.Account(run_id, "snf", 2), "users 20–29", 10, batches.Standing("running"))
        batches.record(
            warehouse,
            batches.Account(run_id, "reason", 0),
            "users 0–9",
            10,
            batches.Standing("failed", answered=9, failed=1),
        )
    return warehouse


def accepted(warehouse: Warehouse) -> set[tuple[str, str, int]]:
    return {
        (run_id, step, batch)
        for run_id in ("r", "other")
        for step in ("snf", "reason")
        for batch in range(3)
        if acceptance.is_accepted(warehouse, run_id, step, batch)
    }


def test_what_is_noted_as_failed_is_accepted(warehouse: Warehouse) -> None:
    assert not acceptance.any_accepted(warehouse, "r")
    parts = acceptance.accept(warehouse, "r")
    assert parts == acceptance.failed(warehouse, "r")
    assert acceptance.told(parts) == (
        "1 batch of snf (users 10–19), 1 batch of reason (users 0–9), at most 4 users without an answer"
    )
    assert accepted(warehouse) == {("r", "snf", 1), ("r", "reason", 0)}
    assert acceptance.any_accepted(warehouse, "r") and not acceptance.any_accepted(warehouse, "other")


def test_what_airflow_calls_failed_is_accepted_though_it_was_killed_without_a_word(warehouse: Warehouse) -> None:
    parts = acceptance.accept(warehouse, "r", [("snf", 2)])
    assert [(p.step, p.batch, p.missing) for p in parts] == [("snf", 2, 10)]
    assert accepted(warehouse) == {("r", "snf", 2)}
    assert acceptance.accept(warehouse, "r", []) == []


def test_a_second_time_changes_nothing(warehouse: Warehouse) -> None:
    acceptance.accept(warehouse, "r")

    def since() -> list[object]:
        with queries.read(warehouse, "batches", "r") as found:
            return [row[found.columns.index("accepted_at")] for row in found.rows]

    before = since()
    assert [p.batch for p in acceptance.accept(warehouse, "r")] == [1, 0]
    assert since() == before


def test_a_batch_that_goes_on_stays_accepted_and_counts_its_users(warehouse: Warehouse) -> None:
    acceptance.accept(warehouse, "r")
    batches.record(warehouse, batches.Account("r", "snf", 1), "users 10–19", 10, batches.Standing("running"))
    assert acceptance.users(warehouse, "r") == {}
    batches.record(
        warehouse,
        batches.Account("r", "snf", 1),
        "users 10–19",
        10,
        batches.Standing("done", answered=7, failed=3, accepted=3),
    )
    assert acceptance.users(warehouse, "r") == {"snf": 3}
    assert accepted(warehouse) == {("r", "snf", 1), ("r", "reason", 0)}
    assert [(p.step, p.batch) for p in acceptance.revoke(warehouse, "r")] == [("snf", 1), ("reason", 0)]
    assert accepted(warehouse) == set() and acceptance.users(warehouse, "r") == {}
    assert acceptance.revoke(warehouse, "r") == []


def test_batches_that_had_no_turn_count_as_failed_unless_more_is_known(warehouse: Warehouse) -> None:
    batches.record_unasked(warehouse, "r", "snf", 0, "users 0–9", 10)
    batches.record_unasked(warehouse, "r", "snf", 3, "users 30–39", 10)
    assert [(p.batch, p.missing) for p in acceptance.failed(warehouse, "r") if p.step == "snf"] == [(1, 3), (3, 10)]


def test_many_batches_are_told_briefly() -> None:
    parts = [acceptance.Part("snf", number, f"users {number}", 1000) for number in range(40)]
    assert acceptance.told(parts) == (
        "40 batches of snf (users 0, users 1, users 2, users 3, users 4 and 35 more), "
        "at most 40,000 users without an answer"
    )
