"""Going on without the users that have no answer: who decides it for which batches, and how it is taken back.

The decision stands in the batch's row. When the batch runs again it asks nothing: what the ledger holds counts, and
users that it does not answer go on as if their answer had been of no use (α = 0).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import TextClause, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.warehouse.engine import transaction

MESSAGE = "{accepted:,} users accepted without an answer."

_FAILED = """
    run_id = :run
    and (:noted and state = 'failed'
         or (step, batch) in (select * from unnest(cast(:steps as text[]), cast(:batches as integer[]))))
"""
_FIND = text(f"select step, batch, label, users - answered from batches where {_FAILED}")  # noqa: S608, ours
_ACCEPT = text(f"""
    update batches set accepted_at = coalesce(accepted_at, now()) where {_FAILED}
    returning step, batch, label, users - answered
""")  # noqa: S608, ours
_REVOKE = text("""
    update batches set accepted_at = null, accepted = 0, state = case when accepted > 0 then 'failed' else state end,
        message = case when accepted > 0 then 'No longer accepted; a rerun asks for what is missing.' else message end
    where run_id = :run and accepted_at is not null
    returning step, batch, label, users - answered
""")
_ACCEPTED_USERS = text("select step, sum(accepted) from batches where run_id = :run and accepted > 0 group by step")


@dataclass(frozen=True)
class Part:
    """A batch as people and Airflow know it; its number is the mapped task's index.

    Attributes:
        missing: users without an answer as far as is known, the most there can be.
    """

    step: str
    batch: int
    label: str
    missing: int


def failed(warehouse: Warehouse, run_id: str, listed: Collection[tuple[str, int]] | None = None) -> list[Part]:
    """A run's failed batches.

    Args:
        listed: step and number of those that whoever orders the tasks calls failed, which may have been killed without
            a word; None: those that are noted as failed.
    """
    return _parts(warehouse, _FIND, _which(run_id, listed))


def accept(warehouse: Warehouse, run_id: str, listed: Collection[tuple[str, int]] | None = None) -> list[Part]:
    """From now on nothing is asked for the run's failed batches; returns them. They still have to be run again.

    Args:
        listed: as in `failed`.
    """
    return _parts(warehouse, _ACCEPT, _which(run_id, listed))


def revoke(warehouse: Warehouse, run_id: str) -> list[Part]:
    """Take back every acceptance of a run; returns the batches. Run again, they ask for what is missing."""
    return _parts(warehouse, _REVOKE, {"run": run_id})


def is_accepted(warehouse: Warehouse, run_id: str, step: str, batch: int) -> bool:
    """Whether the run goes on without what this batch has no answer to."""
    query = text("select accepted_at is not null from batches where run_id = :run and step = :step and batch = :batch")
    with transaction(warehouse) as connection:
        return bool(connection.scalar(query, {"run": run_id, "step": step, "batch": batch}))


def any_accepted(warehouse: Warehouse, run_id: str) -> bool:
    """Whether the run goes on without something."""
    query = text("select exists (select from batches where run_id = :run and accepted_at is not null)")
    with transaction(warehouse) as connection:
        return bool(connection.scalar(query, {"run": run_id}))


def users(warehouse: Warehouse, run_id: str) -> dict[str, int]:
    """Step → users that the run went on without; empty where nobody is missing."""
    with transaction(warehouse) as connection:
        return {step: int(number) for step, number in connection.execute(_ACCEPTED_USERS, {"run": run_id})}


def told(parts: Sequence[Part]) -> str:
    """`2 batches of snf (users 0–199, users 400–599), at most 37 users without an answer`."""
    steps = []
    for step in dict.fromkeys(part.step for part in parts):
        labels = [part.label for part in parts if part.step == step]
        named = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        steps.append(f"{len(labels)} {'batch' if len(labels) == 1 else 'batches'} of {step} ({named})")
    return f"{', '.join(steps)}, at most {sum(p.missing for p in parts):,} users without an answer"


def _parts(warehouse: Warehouse, statement: TextClause, values: dict[str, object]) -> list[Part]:
    with transaction(warehouse) as connection:
        found = [Part(*row) for row in connection.execute(statement, values)]
    return sorted(found, key=lambda part: (list(QUESTION_STEPS).index(part.step), part.batch))


def _which(run_id: str, listed: Collection[tuple[str, int]] | None) -> dict[str, object]:
    return {
        "run": run_id,
        "noted": listed is None,
        "steps": [step for step, _ in listed or ()],
        "batches": [batch for _, batch in listed or ()],
    }
