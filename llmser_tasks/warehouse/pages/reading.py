"""Rows of a statement as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import QUESTION_STEPS, REFERENCE, TRAINED
from llmser_tasks.warehouse.engine import transaction

Row = dict[str, Any]

# What statements may ask of the registry: the method that others are compared with, and orders.
GIVEN: dict[str, Any] = {"reference": REFERENCE, "trained": list(TRAINED), "asking": list(QUESTION_STEPS)}


def given(statement: str) -> dict[str, Any]:
    """Those of GIVEN that a statement asks for."""
    return {name: value for name, value in GIVEN.items() if f":{name}" in statement}


def as_asked(step: str = "step") -> str:
    """The SQL that orders question steps as they are asked; `step` is the column."""
    return f"array_position(cast(:asking as text[]), {step}), {step}"


def rows(connection: Connection, statement: str, **values: Any) -> list[Row]:
    """What a statement brings with these values, and with what it asks of the registry (`GIVEN`)."""
    return [dict(row) for row in connection.execute(text(statement), given(statement) | values).mappings()]


def of_run(warehouse: Warehouse, run_id: str, statements: Mapping[str, str]) -> dict[str, list[Row]]:
    """Rows of each statement about a run (`:run`), by its name."""
    with transaction(warehouse) as connection:
        return {name: rows(connection, statement, run=run_id) for name, statement in statements.items()}


def first(connection: Connection, statement: str, **values: Any) -> Row | None:
    return next(iter(rows(connection, statement, **values)), None)
