"""Users as LLMSeR sees them: histories, pseudo-prior items, and how far these are trusted; what the page shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows

Rows = Iterable[tuple[Any, ...]]

HISTORY_COLUMNS = ("run_id", "user_id", "item_ids")
TITLE_COLUMNS = ("run_id", "item_id", "title", "text")
PSEUDO_COLUMNS = ("run_id", "user_id", "item_ids", "titles", "sources")
RELIABILITY_COLUMNS = (
    "run_id", "user_id", "n", "masked_item", "masked_title", "named_item", "named_title", "source", "omega", "alpha",
    "reason", "encoder_hash",
)  # fmt: skip


def replace(
    warehouse: Warehouse, run_id: str, *, histories: Rows, titles: Rows, pseudo_items: Rows, reliability: Rows
) -> None:
    """Replace what the run has of these, and what is counted from it, in one transaction.

    Raises:
        StorageError: Postgres is down.
    """
    tables = {
        "histories": (HISTORY_COLUMNS, histories),
        "item_titles": (TITLE_COLUMNS, titles),
        "pseudo_items": (PSEUDO_COLUMNS, pseudo_items),
        "reliability": (RELIABILITY_COLUMNS, reliability),
    }
    with transaction(warehouse) as connection:
        for table, (columns, rows) in tables.items():
            replace_rows(connection, table, columns, rows, run_id=run_id)
        connection.execute(text("select count_answers(:run)"), {"run": run_id})
