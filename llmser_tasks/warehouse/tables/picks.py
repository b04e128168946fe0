"""What was made of each user's answer, one row a run, step and user (table `picks`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows, take_over_rows

_COLUMNS = ("run_id", "step", "user_id", "question_key", "shuffle_seed", "item_ids", "sources", "reason",
            "invented")  # fmt: skip
_READ = text("select user_id, item_ids, sources, reason from picks where run_id = :run_id and step = :step")


@dataclass(frozen=True)
class PickRow:
    """What one user picked, by the dump's own ids.

    Attributes:
        item_ids: likeliest first.
        sources: per item how it was read from the answer.
        reason: why there are no items.
    """

    user_id: str
    item_ids: Sequence[str]
    sources: Sequence[str]
    reason: str | None


@dataclass(frozen=True)
class NewPickRow(PickRow):
    """The same, as it is written.

    Attributes:
        question_key: the ledger's; None where there was nothing to ask.
        invented: how many things the answer named that are no candidates.
    """

    question_key: str | None
    shuffle_seed: int | None
    invented: int


def write(connection: Connection, run_id: str, step: str, picks: Iterable[NewPickRow]) -> None:
    """Put these users' rows in place of what they had, within the caller's transaction."""
    found = list(picks)
    rows = (
        (run_id, step, p.user_id, p.question_key, p.shuffle_seed, p.item_ids, p.sources, p.reason, p.invented)
        for p in found
    )
    users = [pick.user_id for pick in found]
    replace_rows(connection, "picks", _COLUMNS, rows, run_id=run_id, step=step, user_id=users)


def read(warehouse: Warehouse, run_id: str, step: str) -> list[PickRow]:
    """All rows of a run's step, in no order."""
    with transaction(warehouse) as connection:
        return [PickRow(*row) for row in connection.execute(_READ, {"run_id": run_id, "step": step})]


def take_over(connection: Connection, run_id: str, earlier: str, user_ids: Collection[str]) -> int:
    """Give a run the picks that another one has of these users; returns how many rows."""
    return take_over_rows(connection, "picks", _COLUMNS, _COLUMNS[:3], run_id, earlier, user_ids)
