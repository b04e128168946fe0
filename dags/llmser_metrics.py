"""What tasks report to StatsD or OpenTelemetry, wherever Airflow sends its own metrics (its settings `metrics`).

Names are `llmser.TASK.…`, behind Airflow's prefix; the dataset is a tag.

- `duration`, a timer in ms, and the counter `failures`: of every attempt;
- of `snf`, `reason` and `user-summary` also counters `calls`, `prompt_tokens`, `completion_tokens`, `cost_millionths`
  (of the price table's currency), `unanswered` (users that an attempt left without an answer) and `accepted` (those of
  them that the run went on without).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from llmser_tasks.warehouse.tables.batches import Bill


@contextmanager
def measured(task: str, run_id: str, dataset: str, batch: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Report one attempt of a task.

    Args:
        batch: the users that it asks about; None for a task that asks nothing.
    """
    tags = {"dataset": dataset}
    before = _bill(task, run_id, batch)
    began = time.monotonic()
    deferred = False
    try:
        yield
    except TaskDeferred:
        deferred = True
        raise
    except Exception:
        stats.incr(f"llmser.{task}.failures", tags=tags)
        raise
    finally:
        stats.timing(f"llmser.{task}.duration", 1000 * (time.monotonic() - began), tags=tags)
        after = _bill(task, run_id, batch)
        if before and after:
            for name, number in _spent(before, after).items():
                stats.incr(f"llmser.{task}.{name}", number, tags=tags)
            if not deferred:
                stats.incr(f"llmser.{task}.unanswered", after.failed, tags=tags)
                stats.incr(f"llmser.{task}.accepted", after.accepted, tags=tags)


def _bill(task: str, run_id: str, batch: Mapping[str, Any] | None) -> Bill | None:
    """What the batch has cost so far; None: not known."""
    if batch is None:
        return None
    from llmser_tasks.core.errors import StorageError
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import batches

    try:
        return batches.bill(address.warehouse(), batches.Account(run_id, task, batch["batch"]))
    except StorageError:  # the task itself says so
        return None


def _spent(before: Bill, after: Bill) -> dict[str, int]:
    return {
        "calls": after.calls - before.calls,
        "prompt_tokens": after.prompt_tokens - before.prompt_tokens,
        "completion_tokens": after.completion_tokens - before.completion_tokens,
        "cost_millionths": round(1e6 * (after.cost - before.cost)),
    }
