"""Arrivals in any number come down to one run and one after it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import refreshes


def nobody(_: str) -> bool:
    return False


def everybody(_: str) -> bool:
    return True


def test_of_ten_arrivals_the_first_starts_a_run_and_the_others_one_more(warehouse: Warehouse) -> None:
    told = [refreshes.take(warehouse, "tiny", f"r{n}", f"s{n}", everybody) for n in range(10)]
    assert told == [True] + [False] * 9
    assert not refreshes.due(warehouse, "tiny", "s9", everybody), "the first still runs"
    assert refreshes.due(warehouse, "tiny", "s9", nobody)
    assert refreshes.take(warehouse, "tiny", "r10", "s9", nobody)
    assert not refreshes.due(warehouse, "tiny", "s9", nobody), "nothing came since"


def test_of_callers_at_the_same_time_one_starts_a_run(warehouse: Warehouse) -> None:
    """The second comes while the first still asks whether the run before it is over."""
    refreshes.take(warehouse, "tiny", "before", None, nobody)
    second: list[Future[bool]] = []

    def over(_: str) -> bool:
        second.append(pool.submit(refreshes.take, warehouse, "tiny", "second", "s", lambda run: run == "first"))
        while not second[0].done() and not waits(warehouse):
            pass
        return False

    with ThreadPoolExecutor(1) as pool:
        assert refreshes.take(warehouse, "tiny", "first", "s", over)
    assert not second[0].result()


def waits(warehouse: Warehouse) -> bool:
    """Whether a statement waits for a lock."""
    with transaction(warehouse) as connection:
        found = connection.scalar(
            text(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
        )
    return bool(found)


def test_what_came_before_the_run_read_the_inbox_needs_no_other_run(warehouse: Warehouse) -> None:
    refreshes.take(warehouse, "tiny", "r1", "first", nobody)
    refreshes.taken_in(warehouse, "tiny", "another run", "third")
    assert refreshes.due(warehouse, "tiny", "second", nobody)
    refreshes.taken_in(warehouse, "tiny", "r1", "second")
    assert not refreshes.due(warehouse, "tiny", "second", nobody)


def test_datasets_do_not_wait_for_each_other(warehouse: Warehouse) -> None:
    assert refreshes.take(warehouse, "one", "r1", "s", everybody)
    assert refreshes.take(warehouse, "other", "r2", "s", everybody)


def test_asked_again_for_the_same_run_it_says_the_same(warehouse: Warehouse) -> None:
    """A task that is retried after its transaction was committed."""
    assert refreshes.take(warehouse, "tiny", "r1", "s", everybody)
    assert refreshes.take(warehouse, "tiny", "r1", "s", everybody)


@pytest.mark.parametrize(("signature", "is_due"), [(None, False), ("first", False), ("second", True)])
def test_an_inbox_is_due_when_it_is_not_what_it_was(warehouse: Warehouse, signature: str | None, is_due: bool) -> None:
    refreshes.take(warehouse, "tiny", "r1", "first", nobody)
    assert refreshes.due(warehouse, "tiny", signature, nobody) is is_due


def test_what_was_never_taken_in_is_due_where_something_lies_there(warehouse: Warehouse) -> None:
    assert refreshes.due(warehouse, "tiny", "s", everybody)
    assert not refreshes.due(warehouse, "tiny", None, everybody)
    refreshes.want(warehouse, "tiny")
    refreshes.want(warehouse, "tiny")
    assert refreshes.due(warehouse, "tiny", None, everybody)
