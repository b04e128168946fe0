"""Bring a database to the schema that this code knows; the steps are in sql/versions/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import SCHEMA, transaction, where

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

SCRIPTS = Path(__file__).parents[2] / "sql"
LOCK = 0x6C6C6D736572  # "llmser"; any number that nobody else locks with


def migrate(warehouse: Warehouse, scripts: Path = SCRIPTS) -> None:
    """Create or upgrade the schema `llmser` in one transaction; data stay. Callers at the same time queue up.

    Raises:
        StorageError: Postgres is down, or its schema is newer than this code.
    """
    _, directory = _scripts(scripts)
    heads = directory.get_heads()
    with transaction(warehouse) as connection:
        queue_up(connection)
        present = _versions(connection)
        if unknown := present - known(scripts):
            raise StorageError(
                f"The database at {where(warehouse.url)} has schema {', '.join(sorted(unknown))}, newer than this "
                f"LLMSeR knows ({', '.join(heads)}); upgrade LLMSeR, or point LLMSER_DATABASE_URL at another database."
            )
        if present == set(heads):
            return
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        upgrade(connection, SCHEMA, scripts=scripts)


def known(scripts: Path = SCRIPTS) -> set[str]:
    """Every revision of the schema that this code can make."""
    return {revision.revision for revision in _scripts(scripts)[1].walk_revisions()}


def queue_up(connection: Connection) -> None:
    """Until the end of the transaction nobody else changes the schema."""
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def upgrade(connection: Connection, schema: str, revision: str = "heads", scripts: Path = SCRIPTS) -> None:
    """Bring a schema to a revision, in the caller's transaction, whose search_path names it."""
    from alembic import command

    config, _ = _scripts(scripts)
    config.attributes |= {"connection": connection, "schema": schema}
    command.upgrade(config, revision)


def _scripts(scripts: Path) -> tuple[Config, ScriptDirectory]:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if not (scripts / "env.py").is_file():
        raise StorageError(f"The migrations are not at {scripts}; run from a checkout, which has sql/ beside the code.")
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config, ScriptDirectory.from_config(config)


def _versions(connection: Connection) -> set[str]:
    if connection.scalar(text("select to_regclass('llmser.alembic_version')")) is None:
        return set()
    return set(connection.scalars(text("select version_num from llmser.alembic_version")))
