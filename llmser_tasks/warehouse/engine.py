"""Connections to the warehouse, and what a person reads when there are none.

Rooms above pass a `Connection` on and name its type from here; statements are in `tables` and `pages`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.rows import storable

__all__ = ["SCHEMA", "Connection", "engine", "parsed", "transaction", "translated", "where"]

SCHEMA = "llmser"


def engine(warehouse: Warehouse) -> Engine:
    """The engine of this process for a warehouse: connections are checked before use, unqualified names mean `llmser`.

    Raises:
        StorageError: its URL is not one of Postgres.
    """
    return _engine(warehouse)


@functools.cache
def _engine(warehouse: Warehouse) -> Engine:
    made = create_engine(
        parsed(warehouse.url),
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        connect_args={
            "options": f"-csearch_path={SCHEMA}",
            "connect_timeout": 10,
            "application_name": "llmser",
            "keepalives_idle": 60,
        },
        hide_parameters=True,  # rows hold users' data and endpoints' answers; errors must not repeat them
    )
    event.listen(made, "before_cursor_execute", _storable_values, retval=True)
    return made


def _storable_values(
    _connection: Connection, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    """Text from outside, such as an id in a URL, may hold characters that Postgres cannot store; they are replaced."""
    return statement, _storable(values)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_storable, value))
    return value


os.register_at_fork(after_in_child=_engine.cache_clear)  # a forked worker must not share its parent's connections


def parsed(url: str) -> URL:
    """The URL with the driver that the project ships."""
    try:
        made = make_url(url)
    except (ArgumentError, ValueError):
        made = None
    if made is None or made.get_backend_name() not in {"postgresql", "postgres"}:
        raise StorageError("LLMSER_DATABASE_URL must look like postgresql://user:password@host:port/database.")
    return made.set(drivername="postgresql+psycopg2")


def where(url: str) -> str:
    """host:port/database of a URL, without user and password."""
    made = parsed(url)
    return f"{made.host or 'localhost'}:{made.port or 5432}/{made.database or ''}"


@contextmanager
def transaction(warehouse: Warehouse) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back where it raises.

    Raises:
        StorageError: Postgres is down, full or refuses us.
    """
    with translated(warehouse.url), engine(warehouse).begin() as connection:
        yield connection


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the driver's errors about the server (never those about our SQL) into one sentence."""
    try:
        yield
    except (DBAPIError, psycopg2.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError, InsufficientPrivilege)):
            raise
        said = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
        raise StorageError(
            f"Postgres at {where(url)} cannot be used: {said[0].rstrip('.')}; "
            "check that it runs and has space (`llmser doctor`), then rerun."
        ) from None
