"""The final Parquet files: integer ids given in order of the dump's ids, rows in a fixed order.

Many dumps know only the day of an interaction, and sort each day by item: taken in the order of lines, a
user's interactions of one day ascend in item id, the held-out one is that day's largest, and a model that learns the
ids' order is rewarded for it. So by default simultaneous ones are ordered by a hash of user, item and time, which
knows nothing of the file, of items in general (it differs from user to user) or of how often a pair came together
(it differs from time to time). It is a property of the interaction alone: what arrives later takes its place among the
others and moves none of them past another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.core.config import Ties
from llmser_tasks.ingest.details import Detail
from llmser_tasks.ingest.filtering import batches, view

_WITHIN_A_MOMENT: dict[Ties, str] = {
    "file": "k.line",
    "hash": "md5(concat_ws(chr(31), 'ties', user_id, item_id, k.timestamp)), i.item",  # ids never hold chr(31)
}

USERS = pa.schema([("user", pa.int32()), ("user_id", pa.string()), ("interactions", pa.int32())])
INTERACTIONS = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("timestamp", pa.int64()),
        ("rating", pa.float32()),
        ("line", pa.int64()),
    ]
)


def items_schema(details: Sequence[Detail]) -> pa.Schema:
    return pa.schema(
        [
            ("item", pa.int32()),
            *((text, pa.string()) for text in ("item_id", "title", *(detail.name for detail in details))),
        ]
    )


def write(connection: duckdb.DuckDBPyConnection, folder: Path, ties: Ties, details: Sequence[Detail]) -> None:
    """Write users, items and interactions from tables `kept`, `users`, `items` and view `meta`.

    Users get 0 … U-1 in order of user_id, items 1 … I in order of item_id (both by code point); interactions are
    sorted by user, timestamp and, within a moment, by `ties`. Table `titles` has the items that have a line: their
    titles, and in `told` the first line that tells any of `details`.
    """
    told = " or ".join(f'"{detail.name}" is not null' for detail in details) or "false"
    connection.execute(
        "create table titles as select item_id, arg_min(title, line) as title, count(*) as lines, "  # noqa: S608, ours
        f"min(line) filter ({told}) as told from meta semi join items using (item_id) group by item_id"
    )  # arg_min passes over missing titles: the first usable one wins
    columns = ", ".join(["items.item_id", "t.title", *(f'm."{detail.name}"' for detail in details)])
    _write(
        folder / "users.parquet",
        USERS,
        _numbered(batches(connection, "select user_id, n from users where n > 0 order by user_id"), 0),
    )
    _write(
        folder / "items.parquet",
        items_schema(details),
        _numbered(
            _finished(
                batches(
                    connection,
                    f"select {columns} from items left join titles t using (item_id) "  # noqa: S608, ours
                    "left join meta m on m.line = t.told order by items.item_id",
                ),
                details,
            ),
            1,
        ),
    )
    view(connection, "user_numbers", folder / "users.parquet")
    view(connection, "item_numbers", folder / "items.parquet")
    _write(
        folder / "interactions.parquet",
        INTERACTIONS,
        batches(
            connection,
            'select u."user", i.item, k.timestamp, k.rating, k.line from kept k join user_numbers u using (user_id) '  # noqa: S608, ours
            f'join item_numbers i using (item_id) order by u."user", k.timestamp, {_WITHIN_A_MOMENT[ties]}',
        ),
    )


def _finished(rows: Iterator[pa.RecordBatch], details: Sequence[Detail]) -> Iterator[pa.RecordBatch]:
    """Clean what was left for the items that stay."""
    for batch in rows:
        for detail in details:
            if finish := detail.finish:
                place = batch.schema.get_field_index(detail.name)
                column = [text and finish(text) for text in batch.column(place).to_pylist()]
                batch = batch.set_column(place, detail.name, pa.array(column, pa.string()))
        yield batch


def _numbered(rows: Iterator[pa.RecordBatch], start: int) -> Iterator[pa.RecordBatch]:
    """Number the rows."""
    for batch in rows:
        numbers = pa.array(np.arange(start, start + batch.num_rows), pa.int32())
        yield pa.record_batch([numbers, *batch.columns], names=["number", *batch.schema.names])
        start += batch.num_rows


def _write(path: Path, schema: pa.Schema, rows: Iterator[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for batch in rows:
            columns = [column.cast(kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
