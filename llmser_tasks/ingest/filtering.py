"""Duplicates, core filter and integer ids, in DuckDB: sorts and groups that spill to disk instead of growing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import StorageError

MEMORY = "1GB"  # DuckDB's share; more is spilled below the artefact's own folder
ROWS = 1 << 17  # rows per row group of the final files, whatever batches DuckDB hands out


@dataclass
class Counts:
    """Interactions, users and items before and after, and where the rest went."""

    lines: int = 0  # usable ones
    distinct: int = 0  # without exact duplicates
    users: int = 0
    items: int = 0
    filtered: dict[str, int] = field(default_factory=dict)  # interactions dropped from `distinct`, by knob
    rounds: int = 0  # of the core filter
    kept: int = 0
    kept_users: int = 0
    kept_items: int = 0


@contextmanager
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose tables and spilled data live in `folder`.

    Raises:
        StorageError: the disk is full or not writable.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(folder / "spill"),
        "threads": min(4, os.cpu_count() or 1),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(str(folder / "work.duckdb"), config=settings) as connection:
            yield connection
    except (duckdb.OperationalError, duckdb.FatalException) as error:  # input and output, memory, commits
        raise StorageError(
            f"DuckDB cannot sort the interactions in {folder}: {str(error).splitlines()[0].rsplit(': ', 1)[-1]}; "
            "free space there, then rerun: nothing half-written is used."
        ) from error


def select(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> Counts:
    """From view `reviews`, leave the interactions that stay in table `kept`, and `users` (user_id, n), `items`.

    Exact duplicates go first (the first line stays), then ratings that are not positive, then the core filter, then
    the shortest users. The core filter looks at counts taken once, users and items at the same time; with
    `iterate_core` it is repeated until nothing falls out any more.
    """
    counts = Counts(lines=_number(connection.execute("select count(*) from reviews")))
    connection.execute(
        "create table kept as select user_id, item_id, timestamp, min(line) as line, "
        "arg_min_null(rating, line) as rating from reviews group by user_id, item_id, timestamp"
    )
    counts.distinct = _number(connection.execute("select count(*) from kept"))
    counts.users, counts.items = _count(connection)
    counts.filtered["rating"] = _number(connection.execute("delete from kept where rating <= 0"))
    counts.filtered |= {"user_core": 0, "item_core": 0}
    while True:
        counts.rounds += 1
        _count(connection)
        rare_users = _number(connection.execute(_DROP_USERS, [dataset.user_core]))
        rare_items = _number(connection.execute(_DROP_ITEMS, [dataset.item_core]))
        counts.filtered["user_core"] += rare_users
        counts.filtered["item_core"] += rare_items
        if not dataset.iterate_core or not rare_users + rare_items:
            break
    _count(connection)
    counts.filtered["min_length"] = _number(connection.execute(_DROP_USERS, [dataset.min_length]))
    counts.kept_users, counts.kept_items = _count(connection)
    counts.kept = _number(connection.execute("select count(*) from kept"))
    return counts


_DROP_USERS = "delete from kept where user_id in (select user_id from users where n < ?)"
_DROP_ITEMS = "delete from kept where item_id in (select item_id from items where n < ?)"


def _count(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Count `kept` by user and by item into `users` and `items`; return how many there are of either."""
    connection.execute("create or replace table users as select user_id, count(*) as n from kept group by user_id")
    connection.execute("create or replace table items as select item_id, count(*) as n from kept group by item_id")
    users = _number(connection.execute("select count(*) from users"))
    return users, _number(connection.execute("select count(*) from items"))


def _number(result: duckdb.DuckDBPyConnection) -> int:
    """The single number a query (or a delete: how many rows) returns."""
    row = result.fetchone()
    assert row is not None
    return int(row[0])


def view(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Give one Parquet file a name, whatever characters (globs) its path has."""
    literal = re.sub(r"([*?\[])", r"[\1]", str(path))
    connection.read_parquet(literal, hive_partitioning=False).create_view(name)


def batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """A query's rows, ROWS at a time, so that what is written from them does not depend on DuckDB's own batches."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in connection.sql(query).to_arrow_reader(ROWS):
        held.append(batch)
        rows += batch.num_rows
        if rows >= ROWS:
            table = pa.Table.from_batches(held)
            whole = rows - rows % ROWS
            yield from (_one(table.slice(start, ROWS)) for start in range(0, whole, ROWS))
            held, rows = table.slice(whole).to_batches(), rows - whole
    if rows:
        yield _one(pa.Table.from_batches(held))


def _one(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]
