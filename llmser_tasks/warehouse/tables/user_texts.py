"""What a model wrote about each user, one row a run, step and user (table `user_texts`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows, take_over_rows

_COLUMNS = ("run_id", "step", "user_id", "question_key", "text", "source", "reason")
_READ = text("select user_id, text, reason from user_texts where run_id = :run_id and step = :step")


@dataclass(frozen=True)
class TextRow:
    """What was written about one user, by the dump's own id.

    Attributes:
        text: None where nothing usable was.
        reason: why there is none.
    """

    user_id: str
    text: str | None
    reason: str | None


@dataclass(frozen=True)
class NewTextRow:
    """The same, as it is written.

    Attributes:
        question_key: the ledger's; None where there was nothing to ask.
        source: how the text was read from the answer.
    """

    user_id: str
    question_key: str | None
    text: str | None
    source: str | None
    reason: str | None


def write(connection: Connection, run_id: str, step: str, texts: Iterable[NewTextRow]) -> None:
    """Put these users' rows in place of what they had, within the caller's transaction."""
    found = list(texts)
    rows = ((run_id, step, *astuple(one)) for one in found)
    users = [one.user_id for one in found]
    replace_rows(connection, "user_texts", _COLUMNS, rows, run_id=run_id, step=step, user_id=users)


def read(warehouse: Warehouse, run_id: str, step: str) -> list[TextRow]:
    """All rows of a run's step, in no order."""
    with transaction(warehouse) as connection:
        return [TextRow(*row) for row in connection.execute(_READ, {"run_id": run_id, "step": step})]


def take_over(connection: Connection, run_id: str, earlier: str, user_ids: Collection[str]) -> int:
    """Give a run the texts that another one has of these users; returns how many rows."""
    return take_over_rows(connection, "user_texts", _COLUMNS, _COLUMNS[:3], run_id, earlier, user_ids)
