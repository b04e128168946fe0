"""What a run may spend, has spent, and what its batches hold for requests to come (of `runs`, `batches` and
`provider_batches`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from llmser_tasks.warehouse.tables.batches import Account
from llmser_tasks.warehouse.tables.question_claims import LOCKS

_BUDGET = text("select budget from runs where run_id = :run")
_BUDGET_ALONE = text("select budget from runs where run_id = :run for update")  # one batch at a time reads and holds
# One statement, so that money which another batch gives back meanwhile is with it or free, and never missing.
_USED = text("""
    with own as materialized (
        select cost, lost, held, owner, owner_lives(:locks, owner) as lives from batches where run_id = :run
    )
    select coalesce(sum(coalesce(cost, 0) + lost), 0),
           coalesce(sum(held) filter (where lives), 0)
        + (select coalesce(sum(held), 0) from provider_batches where run_id = :run and state <> 'ended'),
           coalesce(sum(held) filter (where lives and owner <> :owner), 0)
    from own
""")
_HOLD = text("""
    update batches set held = :amount + case when owner = :owner then held else 0 end, owner = :owner
    where run_id = :run_id and step = :step and batch = :batch
""")
_GIVE_BACK = text("""
    update batches set held = greatest(0, held - :amount)
    where run_id = :run_id and step = :step and batch = :batch and owner = :owner
""")


@dataclass(frozen=True)
class Use:
    """How a run's money stands.

    Attributes:
        budget: None: the run may spend what it takes.
        held: by all its batches that live.
        others: of that, by those that ask one by one, but for the batch that looks.
    """

    budget: float | None
    spent: float
    held: float
    others: float


def budget(connection: Connection, run_id: str) -> float | None:
    """What the run may spend in all; None: as much as it takes."""
    found: float | None = connection.scalar(_BUDGET, {"run": run_id})
    return found


def use(connection: Connection, run_id: str, owner: int | None = None) -> Use:
    """How the run's money stands. Until the transaction ends, nobody else looks.

    Args:
        owner: number of the advisory lock of the batch that looks.
    """
    whole = connection.scalar(_BUDGET_ALONE, {"run": run_id})
    return Use(whole, *connection.execute(_USED, {"run": run_id, "locks": LOCKS, "owner": owner}).one())


def hold(connection: Connection, account: Account, amount: float, owner: int) -> None:
    """Hold so much more for a batch; what an owner before this one held is free."""
    connection.execute(_HOLD, {**asdict(account), "amount": amount, "owner": owner})


def give_back(connection: Connection, account: Account, amount: float, owner: int) -> None:
    """Hold so much less."""
    connection.execute(_GIVE_BACK, {**asdict(account), "amount": amount, "owner": owner})
