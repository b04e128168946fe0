"""A Postgres as those see it who only start or check it: whether it answers, which one it is, what is noted there.

Nothing of this needs a warehouse, and no connection is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, create_engine, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.warehouse.engine import SCHEMA, parsed, translated
from llmser_tasks.warehouse.rows import cursor_of

CONNECT_S = 3


@dataclass(frozen=True)
class Server:
    """What answers at a URL.

    Attributes:
        version: such as `18.4`.
        migrated: it has a warehouse.
    """

    version: str
    migrated: bool


def answers(url: str) -> bool:
    """Whether a database can be used now."""
    try:
        with _connected(url) as connection:
            connection.execute(text("select 1"))
    except StorageError:
        return False
    return True


def look(url: str) -> Server:
    """
    Raises:
        StorageError: it does not answer.
    """
    with _connected(url) as connection:
        version = connection.scalar(text("show server_version"))
        migrated = connection.scalar(text(f"select to_regclass('{SCHEMA}.alembic_version') is not null"))
    return Server(str(version), bool(migrated))


def comment(url: str) -> str | None:
    """The comment on a database; None: it has none.

    Raises:
        StorageError: it does not answer.
    """
    statement = text("select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()")
    with _connected(url) as connection:
        found: str | None = connection.scalar(statement)
    return found


def set_comment(url: str, comment: str) -> None:
    """Put a comment on a database in place of the one it has.

    Raises:
        StorageError: it does not answer.
    """
    with _connected(url) as connection:
        name = sql.Identifier(str(connection.scalar(text("select current_database()"))))
        cursor_of(connection).execute(sql.SQL("comment on database {} is {}").format(name, sql.Literal(comment)))


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(parsed(url), connect_args={"connect_timeout": CONNECT_S})
    try:
        with translated(url), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
