"""Every task of every DAG survives what machines do, and fails at once where a person must act."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowTaskTimeout, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.llm import errors as llm
from llmser_tasks.llm.fleet.budget import BudgetSpent

FOLDER = Path(__file__).parents[2] / "dags"


def tasks() -> list[Any]:
    bag = DagBag(str(FOLDER))
    assert bag.import_errors == {}
    every = [task for dag in bag.dags.values() for task in dag.tasks]
    return [pytest.param(task, id=name) for name, task in sorted((f"{t.dag_id}.{t.task_id}", t) for t in every)]


TASKS = tasks()
PERSON = [InputError("no such file"), llm.KeyRefused("no"), llm.QuotaExhausted("arrears"), BudgetSpent("spent")]
MACHINE = [
    StorageError("Postgres is away"),
    OSError(28, "No space left on device"),
    ConnectionResetError("gone"),
    MemoryError(),
    AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"message": "refused"})),
]


@pytest.mark.parametrize("task", TASKS)
def test_what_a_machine_did_is_retried_several_times_with_growing_pauses(task: Any) -> None:
    assert task.retries >= 6, "a killed worker leaves no error: only this number counts"
    assert timedelta(seconds=5) <= task.retry_delay <= timedelta(seconds=30)
    assert task.retry_exponential_backoff > 1
    assert task.max_retry_delay <= timedelta(minutes=10)
    for error in MACHINE:
        for attempt in range(1, task.retries + 1):
            decided = task.retry_policy.evaluate(error, attempt, task.retries)
            assert decided.action == RetryAction.RETRY, f"{error!r}, attempt {attempt}"
            assert decided.retry_delay is None, "pauses grow"


@pytest.mark.parametrize("task", TASKS)
def test_what_a_person_must_mend_is_not_retried(task: Any) -> None:
    for error in PERSON:
        assert task.retry_policy.evaluate(error, 1, task.retries).action == RetryAction.FAIL, repr(error)


@pytest.mark.parametrize("task", TASKS)
def test_a_bug_is_told_after_three_tries_and_a_hang_after_two(task: Any) -> None:
    def tried(error: BaseException) -> int:
        return next(
            attempt
            for attempt in range(1, task.retries + 2)
            if task.retry_policy.evaluate(error, attempt, task.retries).action == RetryAction.FAIL
        )

    assert tried(ZeroDivisionError("a bug")) == 3
    assert tried(AirflowTaskTimeout("days")) == 2


@pytest.mark.parametrize("task", TASKS)
def test_a_cleared_task_has_all_its_tries_anew(task: Any) -> None:
    """Airflow goes on counting tries after a task was cleared, and raises the most that it may have."""
    earlier = 9
    decided = task.retry_policy.evaluate(ZeroDivisionError("a bug"), earlier + 1, earlier + task.retries)
    assert decided.action == RetryAction.DEFAULT


@pytest.mark.parametrize("task", TASKS)
def test_nothing_may_hang_for_ever_and_nothing_honest_is_cut_off(task: Any) -> None:
    assert task.execution_timeout is not None
    least = {"gpu": timedelta(days=7), "llm": timedelta(days=2)}.get(task.pool, timedelta(hours=1))
    assert least <= task.execution_timeout <= timedelta(days=30)


def test_an_endpoint_that_stays_away_is_told_within_minutes() -> None:
    snf = next(one.values[0] for one in TASKS if one.id == "llmser.snf")
    for error, pause in ((llm.Unavailable("503"), 20), (llm.Timeout("60 s"), 20), (llm.RateLimited("slow"), 60)):
        decided = [snf.retry_policy.evaluate(error, attempt, snf.retries) for attempt in range(1, 5)]
        assert [one.action for one in decided] == [RetryAction.RETRY] * 3 + [RetryAction.FAIL]
        assert {one.retry_delay for one in decided[:3]} == {timedelta(seconds=pause)}
