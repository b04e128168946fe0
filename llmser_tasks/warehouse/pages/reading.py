"""Rows of a statement as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.warehouse.engine import transaction

Row = dict[str, Any]


def rows(connection: Connection, statement: str, **values: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(text(statement), values).mappings()]


def of_run(url: str, run_id: str, statements: Mapping[str, str]) -> dict[str, list[Row]]:
    """Rows of each statement about a run (`:run`), by its name."""
    with transaction(url) as connection:
        return {name: rows(connection, statement, run=run_id) for name, statement in statements.items()}


def first(connection: Connection, statement: str, **values: Any) -> Row | None:
    return next(iter(rows(connection, statement, **values)), None)
