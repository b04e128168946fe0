"""What failed of a run, one row a task, and the one sentence that sums it up.

A row stands from the moment a task fails until that task begins anew, so clearing a task takes back its failure and no
other. Page, command line and notices all show what `sentence` makes of the rows, the cause that a person has to see to
first. Imports little: it is called in Airflow's DAG processor, which has no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from llmser_tasks.core.errors import InputError, LlmserError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable, storable_json

RUN = "run"  # the task of a run in one process
BUDGET = "budget"  # the kind of which there is a notice of its own
KILLED = "killed"
WITHOUT_A_WORD = "A task ended without a word, as if killed; rerun it."

# Kinds of failure as people read them, those first on which a person has to act.
KINDS = {
    BUDGET: "budget spent",
    "quota": "no quota",
    "key refused": "key refused",
    "unsupported": "cannot be asked this way",
    "cut off": "cut off before an answer",
    "nonsense": "nonsense",
    "input": "input or setting",
    "storage": "storage",
    "refused": "refused",
    "format refused": "form refused",
    "length refused": "length refused",
    "unanswered": "unanswered",
    "no answer": "no answer",
    "server error": "server error",
    "unreachable": "unreachable",
    "rate limit": "rate limit",
    "timeout": "timeout",
    "not asked": "not asked",
    KILLED: "killed",
}


@dataclass(frozen=True)
class Failure:
    """One task, or one part of a mapped one, that failed.

    Attributes:
        part: map index; -1: the task has none.
        kind: one of KINDS, as a rule.
        users: of a batch of questions: why → how many users have no answer.
    """

    task: str
    part: int
    kind: str | None
    message: str
    users: Mapping[str, int] = field(default_factory=dict)
    failed_at: datetime | None = None


def of_error(error: BaseException | None, task: str = RUN, part: int = -1) -> Failure:
    """What an exception says; None: a task that ended without one."""
    if error is None or not str(error):
        if error is None:
            return Failure(task, part, KILLED, WITHOUT_A_WORD)
        return Failure(task, part, None, f"{type(error).__name__}; see the log.")
    kind = getattr(error, "kind", None)
    if kind is None and isinstance(error, (InputError, StorageError)):
        kind = "input" if isinstance(error, InputError) else "storage"
    users = error.users_without_answer if isinstance(error, LlmserError) else {}
    return Failure(task, part, kind, str(error), dict(users))


def note(connection: Connection, run_id: str, failure: Failure, dataset: str | None = None) -> None:
    """Keep why a task failed. Of one that was killed it is kept only where it had not said more itself."""
    connection.execute(
        text(
            "insert into failures (run_id, task, part, dataset, kind, message, users)"
            " values (:run, :task, :part, :dataset, :kind, :message, cast(:users as jsonb))"
            " on conflict (run_id, task, part) do update set kind = excluded.kind, message = excluded.message,"
            " users = excluded.users where :more"
        ),
        {
            "run": storable(run_id),
            "task": failure.task,
            "part": failure.part,
            "dataset": None if dataset is None else storable(dataset),
            "kind": failure.kind,
            "message": storable(failure.message),
            "users": storable_json(failure.users),
            "more": failure.kind != KILLED,
        },
    )


def forget(warehouse: Warehouse, run_id: str, task: str, part: int = -1) -> None:
    """The task begins anew."""
    with transaction(warehouse) as connection:
        connection.execute(
            text("delete from failures where run_id = :run and task = :task and part = :part"),
            {"run": storable(run_id), "task": task, "part": part},
        )


def of_run(connection: Connection, run_id: str) -> list[Failure]:
    """What has failed of a run, the cause that a person has to see to first before the others."""
    found = connection.execute(
        text("select task, part, kind, message, users, failed_at from failures where run_id = :run"),
        {"run": storable(run_id)},
    )
    return sorted((Failure(*row) for row in found), key=_urgency)


def sentence(failures: Sequence[Failure]) -> str:
    """All of them in a line: `4 batches, 19 users: 16 no quota, 3 server error.`, and what the first one said.

    Args:
        failures: at least one, as `of_run` sorts them.
    """
    first = failures[0]
    if len(failures) == 1:
        return first.message
    tasks = Counter(failure.task for failure in failures if failure.task not in QUESTION_STEPS)
    batches = sum(failure.task in QUESTION_STEPS for failure in failures)
    what = [task if number == 1 else f"{number} × {task}" for task, number in tasks.items()]
    if batches:
        what.append("1 batch" if batches == 1 else f"{batches} batches")
    users: Counter[str] = Counter()
    for failure in failures:
        users.update(failure.users)
    kinds = users or Counter(failure.kind or "other" for failure in failures)
    if users:
        what.append(f"{users.total():,} {'user' if users.total() == 1 else 'users'}")
    why = ", ".join(f"{kinds[kind]:,} {KINDS.get(kind, kind)}" for kind in sorted(kinds, key=_rank))
    return f"{', '.join(what)}: {why}. {first.message}"


def _urgency(failure: Failure) -> tuple[int, str, int]:
    return (_rank(failure.kind), failure.task, failure.part)


def _rank(kind: str | None) -> int:
    """Place in KINDS; what is not among them stands before what was killed, and behind what says more."""
    kinds = list(KINDS)
    return kinds.index(kind) if kind in KINDS else kinds.index(KILLED) - 1
