"""Rows of a statement as dicts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

Row = dict[str, Any]


def rows(connection: Connection, statement: str, **values: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(text(statement), values).mappings()]


def first(connection: Connection, statement: str, **values: Any) -> Row | None:
    return next(iter(rows(connection, statement, **values)), None)
