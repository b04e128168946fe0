"""Which datasets wait for a refresh, one row each: however much arrives, one run takes it in, and one more what came
while that one ran."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction

Busy = Callable[[str], bool]  # whether a run of this id waits or runs


def want(warehouse: Warehouse, dataset: str) -> None:
    """Note that a refresh is wanted, once the present one is over."""
    with transaction(warehouse) as connection:
        connection.execute(
            text(
                "insert into refreshes (dataset, wanted_at) values (:dataset, now())"
                " on conflict (dataset) do update set wanted_at = coalesce(refreshes.wanted_at, now())"
            ),
            {"dataset": dataset},
        )


def due(warehouse: Warehouse, dataset: str, signature: str | None, busy: Busy) -> bool:
    """Whether a refresh can begin and has a reason to: somebody wants it, or the inbox is not what it was.

    Args:
        signature: of what is in the inbox; None: nothing.
    """
    with transaction(warehouse) as connection:
        row = connection.execute(
            text("select seen, run_id, wanted_at from refreshes where dataset = :dataset"), {"dataset": dataset}
        ).one_or_none()
    if row is None:
        return signature is not None
    reason = row.wanted_at is not None or (signature is not None and signature != row.seen)
    return reason and not (row.run_id is not None and busy(row.run_id))


def take(warehouse: Warehouse, dataset: str, run_id: str, signature: str | None, busy: Busy) -> bool:
    """Begin a refresh under this run id, unless one waits or runs: then another one is noted as wanted after it.

    Returns:
        Whether the run is to be started. Of several callers at the same time one is told so.
    """
    given = {"dataset": dataset, "run": run_id, "seen": signature}
    with transaction(warehouse) as connection:
        connection.execute(
            text("insert into refreshes (dataset) values (:dataset) on conflict (dataset) do nothing"), given
        )
        now = connection.scalar(text("select run_id from refreshes where dataset = :dataset for update"), given)
        if now is not None and now != run_id and busy(now):
            wanted = text("update refreshes set wanted_at = coalesce(wanted_at, now()) where dataset = :dataset")
            connection.execute(wanted, given)
            return False
        connection.execute(
            text("update refreshes set run_id = :run, seen = :seen, wanted_at = null where dataset = :dataset"), given
        )
    return True


def taken_in(warehouse: Warehouse, dataset: str, run_id: str, signature: str | None) -> None:
    """Note what the inbox held when the refresh read it: what came since it was started needs no other one."""
    with transaction(warehouse) as connection:
        connection.execute(
            text("update refreshes set seen = :seen where dataset = :dataset and run_id = :run"),
            {"dataset": dataset, "run": run_id, "seen": signature},
        )
