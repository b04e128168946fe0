"""What is tried again, how often and after what pause: one policy for every task of every DAG.

What a machine is to blame for is tried again, several times and after growing pauses: a worker killed or preempted, a
lost heartbeat, memory that ran out, Postgres, the disk or Airflow's own API away. All steps are idempotent and
trainings go on from their last epoch, so that a retry loses little. What a person must mend is not tried again at all:
that person should hear of it at once. An error that nobody foresaw is mostly a bug, which fails the same way every
time: it gets fewer tries, and those only because a machine may have been at fault.

A task that was killed leaves no error behind: then only the number of tries counts, and pauses grow by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import Context, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision
from typing_extensions import override

RETRIES = 6
FIRST_PAUSE = timedelta(seconds=10)  # doubled each time, and up to twice as long by chance
LONGEST_PAUSE = timedelta(minutes=5)
UNFORESEEN_TRIES = 3

# Generous limits for what hangs; what is asked through a provider's Batch API is deferred and not bound by them.
SHORT = timedelta(hours=2)  # rows are counted, batches planned
DATA = timedelta(days=2)  # everything is read or ranked once
ASKING = timedelta(days=3)  # a batch that waits for its share of a low rate limit
TRAINING = timedelta(days=14)

LLM_ERRORS = "llmser_tasks.llm.errors."


@dataclass(frozen=True)
class Kind:
    """Errors that are handled in the same way."""

    rule: RetryRule
    tries: int = RETRIES + 1


KINDS = (
    Kind(
        RetryRule(
            exception=[LLM_ERRORS + "EndpointFatal", "llmser_tasks.core.errors.InputError"],
            action=RetryAction.FAIL,
            reason="A person has to act first: the key, the quota, the address or a setting.",
        )
    ),
    Kind(
        RetryRule(
            exception=LLM_ERRORS + "RateLimited",
            retry_delay=timedelta(seconds=60),
            reason="The endpoint's limit; only the users without an answer are asked again.",
        ),
        tries=4,
    ),
    Kind(
        RetryRule(
            exception=[LLM_ERRORS + "Retriable", LLM_ERRORS + "Refused"],
            retry_delay=timedelta(seconds=20),
            reason="A passing failure; only the users without an answer are asked again.",
        ),
        tries=4,
    ),
    Kind(
        RetryRule(
            exception="airflow.sdk.exceptions.AirflowTaskTimeout",
            reason="It went on for longer than anything of its kind should.",
        ),
        tries=2,
    ),
    Kind(
        RetryRule(
            exception=[
                "llmser_tasks.core.errors.StorageError",
                "builtins.OSError",  # connections and time-outs are among these
                "builtins.MemoryError",
                "airflow.sdk.exceptions.AirflowRuntimeError",  # what a task asked Airflow's API for
            ],
            reason="The machine, Postgres or Airflow's API; the step goes on from where it was.",
        )
    ),
)


class Retries(ExceptionRetryPolicy):
    """The first kind that an error belongs to decides, until its tries are used up."""

    def __init__(self, kinds: Sequence[Kind] = KINDS) -> None:
        super().__init__(rules=[kind.rule for kind in kinds])
        self.kinds = kinds

    @override
    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        since_cleared = try_number - max(0, max_tries - RETRIES)  # a cleared task has all its tries again
        kind = next((kind for kind in self.kinds if kind.rule.matches(exception)), None)
        tries = kind.tries if kind else UNFORESEEN_TRIES
        if since_cleared >= tries:
            return RetryDecision.fail(f"{type(exception).__name__} after {since_cleared} tries.")
        return super().evaluate(exception, try_number, max_tries, context)


RETRIED: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay": FIRST_PAUSE,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": LONGEST_PAUSE,
    "retry_policy": Retries(),
}
