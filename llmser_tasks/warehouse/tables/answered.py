"""What was made of each user's answer in a run, whatever the step's answers are: picks or texts (view `answered`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from llmser_tasks.warehouse.tables import picks, user_texts

UNANSWERED = "unanswered"  # how the reason of a user begins whom a rerun would ask

_SETTLED = text(
    "select user_id from answered where run_id = :run and step = any(:steps)"
    " and (reason is null or reason not like :open) group by user_id having count(*) = :count"
)


def settled(connection: Connection, run_id: str, steps: Sequence[str]) -> set[str]:
    """Users that all of these steps have settled in a run: an answer came, or it is known that none will."""
    given = {"run": run_id, "steps": list(steps), "open": f"{UNANSWERED}%", "count": len(steps)}
    return set(connection.scalars(_SETTLED, given))


def take_over(connection: Connection, run_id: str, earlier: str, user_ids: Collection[str]) -> int:
    """Give a run what another one has of these users; returns how many rows."""
    return sum(kind.take_over(connection, run_id, earlier, user_ids) for kind in (picks, user_texts))
