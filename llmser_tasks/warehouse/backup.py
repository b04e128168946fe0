"""The warehouse in one file, and back.

`pg_dump`, which the embedded server brings, writes the file. It is not put back by running it: our own migrations make
a fresh schema as of the release that wrote the archive, its rows go in by our own COPY, our migrations bring it up to
date, and then the schemas change places, all in one transaction. So no SQL of an archive is ever run, and whoever is
killed on the way leaves what was there.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.manifest import sync
from llmser_tasks.postgres.packed import packed_postgres
from llmser_tasks.warehouse import archive, migrations
from llmser_tasks.warehouse.engine import SCHEMA, parsed, transaction, where
from llmser_tasks.warehouse.rows import cursor_of

NOT_WHOSE = ("--no-owner", "--no-privileges")  # so that it can be put back by whoever the place belongs to
BEFORE = f"{SCHEMA}_before_"  # and a time: what a restore took the place of
_LOCKS = (0x4C4C4D, 0x4C4C50)  # classes of the advisory locks by which batches and runs are seen to live

_AT_WORK = text("""
    select exists (select from pg_locks where locktype = 'advisory' and granted and objsubid = 2
                   and classid::bigint between :first and :last and pid <> pg_backend_pid()
                   and database = (select oid from pg_database where datname = current_database()))
""")
_FOREIGN_KEYS = text("""
    select c.relname, k.conname, pg_get_constraintdef(k.oid) from pg_constraint k join pg_class c on c.oid = k.conrelid
    where k.contype = 'f' and c.relnamespace = cast(:schema as regnamespace)
""")
_COLUMNS = text("""
    select c.relname, array_agg(a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = cast(:schema as regnamespace) and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
    group by 1
""")
_EMPTY = "select not exists (select from {schema}.runs) and not exists (select from {schema}.answers)"


@dataclass(frozen=True)
class Restored:
    """What a restore did: the rows that are there now, and the schema that keeps what was there before, if any."""

    rows: int
    former: str | None


def backup(warehouse: Warehouse, file: Path, *, force: bool = False) -> int:
    """Write the schema `llmser` as of now, and read it again; whoever works meanwhile is not disturbed.

    The file holds users' data: nobody else may read it.

    Args:
        force: take the place of a file that is there.

    Returns:
        How many rows it holds.

    Raises:
        InputError: the file is there, or cannot be written; or there is nothing to write.
        StorageError: Postgres is down.
    """
    if os.path.lexists(file) and not force:
        raise InputError(f"{file} is there already; name another file, or have it replaced with --force.")
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _refuse_empty(warehouse)
        _run(warehouse, "pg_dump", "--format=custom", "--encoding=UTF8", *NOT_WHOSE, f"--schema={SCHEMA}",
             f"--file={temporary}")  # fmt: skip
        rows = _read_again(temporary, file)
        sync(temporary)
        temporary.replace(file)
        sync(file.absolute().parent)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); choose another place.") from None
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def restore(warehouse: Warehouse, file: Path) -> Restored:
    """Put what `backup` wrote in the place of the whole schema, upgraded to this release, in one transaction.

    What was there is kept as another schema (`BEFORE` and the time), unless it was empty.

    Raises:
        InputError: the file is no backup of a warehouse, is damaged, or is of a newer release.
        StorageError: Postgres is down or refuses, or is at work; everything is as it was.
    """
    found = archive.contents(file)
    if found.version not in migrations.known():
        raise InputError(
            f"{file} is of schema {found.version}, newer than this LLMSeR knows ({max(migrations.known())}); nothing "
            "was restored. Upgrade LLMSeR first."
        )
    fresh = f"{SCHEMA}_fresh_{secrets.token_hex(4)}"
    with transaction(warehouse) as connection:
        migrations.queue_up(connection)
        first, last = _LOCKS
        if connection.scalar(_AT_WORK, {"first": first, "last": last}):
            raise StorageError(
                f"A run is at work in {where(warehouse.url)}; nothing was restored. Let it end, or stop it "
                "(`llmser down`)."
            )
        connection.execute(text(f"create schema {fresh}"))
        connection.execute(text(f"set local search_path to {fresh}"))
        migrations.upgrade(connection, fresh, found.version)
        rows = _load(connection, fresh, file, found)
        migrations.upgrade(connection, fresh)
        former = _switch(connection, fresh)
    return Restored(rows, former)


def forget(warehouse: Warehouse) -> list[str]:
    """Drop what earlier restores kept of the warehouses before them; returns the schemas' names."""
    with transaction(warehouse) as connection:
        listed = text("select nspname from pg_namespace where starts_with(nspname, :before) order by 1")
        kept = list(connection.scalars(listed, {"before": BEFORE}))
        for schema in kept:
            _do(connection, "drop schema {} cascade", schema)
    return kept


def _load(connection: Connection, schema: str, file: Path, found: archive.Contents) -> int:
    """Fill the tables of a fresh schema, as they were in the release that wrote the archive; returns how many rows.

    Raises:
        InputError: the rows do not fit, or are not all there.
    """
    columns: dict[str, set[str]] = {
        name: set(names) for name, names in connection.execute(_COLUMNS, {"schema": schema})
    }
    keys = connection.execute(_FOREIGN_KEYS, {"schema": schema}).all()
    for name, key, _ in keys:  # rows come table by table, not in the order in which they refer to each other
        _do(connection, "alter table {} drop constraint {}", name, key)
    _do(connection, "delete from {}", archive.VERSION)  # its row comes with the others
    counts: dict[str, int] = {}
    with _fitting(file):
        for table in archive.tables(file):
            if table.name in counts or not set(table.columns) <= columns.get(table.name, set()):
                raise InputError(
                    f"{file} is no backup of the warehouse: LLMSeR of schema {found.version} has no table {table.name} "
                    "with these columns. Nothing was restored."
                )
            command = sql.SQL("copy {} ({}) from stdin (encoding 'UTF8')").format(
                sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
            )
            cursor_of(connection).copy_expert(command, table)
            counts[table.name] = table.rows
        for name, key, definition in keys:
            _do(connection, f"alter table {{}} add constraint {{}} {definition}", name, key)
    there = {
        name: connection.scalar(text(f"select count(*) from {name}"))  # noqa: S608 - a table of ours
        for name in counts
    }
    if there != counts or counts.keys() != found.tables:
        raise InputError(f"{file} is damaged: not all of its rows are there. Nothing was restored.")
    return sum(counts.values())


@contextmanager
def _fitting(file: Path) -> Iterator[None]:
    """Turn what Postgres says about rows into a sentence, without the rows."""
    try:
        yield
    except (psycopg2.DataError, psycopg2.IntegrityError, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, (psycopg2.DataError, psycopg2.IntegrityError)):
            raise
        raise InputError(
            f"{file} is damaged: rows of the table {cause.diag.table_name or '(unknown)'} do not fit "
            f"({type(cause).__name__}). Nothing was restored."
        ) from None


def _switch(connection: Connection, fresh: str) -> str | None:
    """Let the fresh schema be the warehouse; returns what the one before is called now."""
    # What nobody was told when the backup was made is no news any more.
    connection.execute(text("update notices set sent_at = now() where sent_at is null"))
    former = None
    if connection.scalar(text(f"select to_regnamespace('{SCHEMA}') is not null")):
        former = f"{BEFORE}{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
        if _is_empty(connection):
            _do(connection, "drop schema {} cascade", SCHEMA)
            former = None
        else:
            _do(connection, "alter schema {} rename to {}", SCHEMA, former)
    _do(connection, "alter schema {} rename to {}", fresh, SCHEMA)
    return former


def _is_empty(connection: Connection) -> bool:
    if connection.scalar(text(f"select to_regclass('{SCHEMA}.answers') is null")):
        return False  # whatever it is, it is not ours to drop
    return bool(connection.scalar(text(_EMPTY.format(schema=SCHEMA))))


def _refuse_empty(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        if _is_empty(connection):
            place = where(warehouse.url)
            raise InputError(
                f"The warehouse at {place} is empty: no run, no answer. Nothing was written. LLMSER_HOME or "
                "LLMSER_DATABASE_URL says which one is meant; by default it is the one of the folder you are in."
            )


def _read_again(written: Path, file: Path) -> int:
    """Raises StorageError where what was written cannot be read."""
    try:
        found, rows, names = archive.contents(written), 0, set()
        for table in archive.tables(written):
            table.skip()
            rows += table.rows
            names.add(table.name)
        if names == found.tables:
            return rows
    except InputError:
        pass
    raise StorageError(f"What was written for {file} cannot be read again; check the disk, then try again.")


def _do(connection: Connection, statement: str, *names: str) -> None:
    cursor = cursor_of(connection)
    cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _run(warehouse: Warehouse, program: str, *arguments: str) -> None:
    made = parsed(warehouse.url)
    login = {
        "PGHOST": made.host or "localhost",
        "PGPORT": str(made.port or 5432),
        "PGUSER": made.username or "",
        "PGPASSWORD": str(made.password or ""),  # not among the arguments, which every user of the machine may read
        "PGDATABASE": made.database or "",
    }
    command = [str(packed_postgres() / "bin" / program), *arguments]
    done = subprocess.run(
        command, env=os.environ | login, capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise StorageError(f"{program} at {where(warehouse.url)} failed: {said[0][:300]}")
