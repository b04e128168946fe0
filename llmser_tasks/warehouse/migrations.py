"""Bring a database to the schema that this code knows; the steps are in sql/versions/."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from llmser_tasks.errors import StorageError
from llmser_tasks.warehouse.engine import SCHEMA, transaction, where

SCRIPTS = Path(__file__).parents[2] / "sql"
LOCK = 0x6C6C6D736572  # "llmser"; any number that nobody else locks with


def migrate(url: str, scripts: Path = SCRIPTS) -> None:
    """Create or upgrade the schema `llmser` in one transaction; data stay. Callers at the same time queue up.

    Raises:
        StorageError: Postgres is down, or its schema is newer than this code.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if not (scripts / "env.py").is_file():
        raise StorageError(f"The migrations are not at {scripts}; run from a checkout, which has sql/ beside the code.")
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    directory = ScriptDirectory.from_config(config)
    heads = directory.get_heads()
    known = {revision.revision for revision in directory.walk_revisions()}
    with transaction(url) as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        present = _versions(connection)
        if unknown := present - known:
            raise StorageError(
                f"The database at {where(url)} has schema {', '.join(sorted(unknown))}, newer than this LLMSeR knows "
                f"({', '.join(heads)}); upgrade LLMSeR, or point LLMSER_DATABASE_URL at another database."
            )
        if present == set(heads):
            return
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")


def _versions(connection: Connection) -> set[str]:
    if connection.scalar(text("select to_regclass('llmser.alembic_version')")) is None:
        return set()
    return set(connection.scalars(text("select version_num from llmser.alembic_version")))
