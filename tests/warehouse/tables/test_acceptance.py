"""Which batches are accepted, which are not, and how people read it."""

from __future__ import annotations

import pytest

from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.tables import acceptance, batches, runs


@pytest.fixture
def url(database_url: str) -> str:
    """A run with a batch that is done, one that failed, one that was killed, and one of Reason that failed."""
    for run_id in ("r", "other"):
        runs.create(database_url, run_id, "sample", {})
        batches.record(
            database_url, batches.Account(run_id, "snf", 0), "users 0–9", 10, batches.Standing("done", answered=10)
        )
        batches.record(
            database_url,
            batches.Account(run_id, "snf", 1),
            "users 10–19",
            10,
            batches.Standing("failed", answered=7, failed=3),
        )
        batches.record(database_url, batches.Account(run_id, "snf", 2), "users 20–29", 10, batches.Standing("running"))
        batches.record(
            database_url,
            batches.Account(run_id, "reason", 0),
            "users 0–9",
            10,
            batches.Standing("failed", answered=9, failed=1),
        )
    return database_url


def accepted(url: str) -> set[tuple[str, str, int]]:
    return {
        (run_id, step, batch)
        for run_id in ("r", "other")
        for step in ("snf", "reason")
        for batch in range(3)
        if acceptance.is_accepted(url, run_id, step, batch)
    }


def test_what_is_noted_as_failed_is_accepted(url: str) -> None:
    assert not acceptance.any_accepted(url, "r")
    parts = acceptance.accept(url, "r")
    assert parts == acceptance.failed(url, "r")
    assert acceptance.told(parts) == (
        "1 batch of snf (users 10–19), 1 batch of reason (users 0–9), at most 4 users without an answer"
    )
    assert accepted(url) == {("r", "snf", 1), ("r", "reason", 0)}
    assert acceptance.any_accepted(url, "r") and not acceptance.any_accepted(url, "other")


def test_what_airflow_calls_failed_is_accepted_though_it_was_killed_without_a_word(url: str) -> None:
    parts = acceptance.accept(url, "r", [("snf", 2)])
    assert [(p.step, p.batch, p.missing) for p in parts] == [("snf", 2, 10)]
    assert accepted(url) == {("r", "snf", 2)}
    assert acceptance.accept(url, "r", []) == []


def test_a_second_time_changes_nothing(url: str) -> None:
    acceptance.accept(url, "r")

    def since() -> list[object]:
        with queries.read(url, "batches", "r") as found:
            return [row[found.columns.index("accepted_at")] for row in found.rows]

    before = since()
    assert [p.batch for p in acceptance.accept(url, "r")] == [1, 0]
    assert since() == before


def test_a_batch_that_goes_on_stays_accepted_and_counts_its_users(url: str) -> None:
    acceptance.accept(url, "r")
    batches.record(url, batches.Account("r", "snf", 1), "users 10–19", 10, batches.Standing("running"))
    assert acceptance.users(url, "r") == {}
    batches.record(
        url,
        batches.Account("r", "snf", 1),
        "users 10–19",
        10,
        batches.Standing("done", answered=7, failed=3, accepted=3),
    )
    assert acceptance.users(url, "r") == {"snf": 3}
    assert accepted(url) == {("r", "snf", 1), ("r", "reason", 0)}
    assert [(p.step, p.batch) for p in acceptance.revoke(url, "r")] == [("snf", 1), ("reason", 0)]
    assert accepted(url) == set() and acceptance.users(url, "r") == {}
    assert acceptance.revoke(url, "r") == []


def test_batches_that_had_no_turn_count_as_failed_unless_more_is_known(url: str) -> None:
    batches.record_unasked(url, "r", "snf", 0, "users 0–9", 10)
    batches.record_unasked(url, "r", "snf", 3, "users 30–39", 10)
    assert [(p.batch, p.missing) for p in acceptance.failed(url, "r") if p.step == "snf"] == [(1, 3), (3, 10)]


def test_many_batches_are_told_briefly() -> None:
    parts = [acceptance.Part("snf", number, f"users {number}", 1000) for number in range(40)]
    assert acceptance.told(parts) == (
        "40 batches of snf (users 0, users 1, users 2, users 3, users 4 and 35 more), "
        "at most 40,000 users without an answer"
    )
