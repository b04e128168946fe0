"""Rows as a table for people, CSV, JSON or Parquet; all but the table hold every value exactly as it is.

They are written as they stream in, without pandas: it takes twice as long for CSV (frames of 2,000 rows), turns whole
numbers beside missing ones into floats, rounds JSON's floats to 15 digits, and NaN to nothing in Parquet.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO

from llmser_tasks.core.printable import printable
from llmser_tasks.warehouse.queries import Rows

LOOK_AHEAD = 200  # rows that decide on the widths of a table's columns
WIDEST = 60  # characters of a cell in a table
BLOCK = 10_000  # rows per Parquet row group
NUMBERS = {20, 21, 23, 700, 701, 1700}  # Postgres' type numbers: bigint … numeric
TEXT, WHOLE, FLOAT, JSON = 25, 23, 701, 3802  # and those of tables that do not come from Postgres


def table(found: Rows, out: BinaryIO) -> None:
    """Aligned columns. Control characters are replaced and long texts shortened: this is for the eye."""
    rows = ([readable(value) for value in row] for row in found.rows)
    head = list(itertools.islice(rows, LOOK_AHEAD))
    widths = [max(map(len, column)) for column in zip(found.columns, *head, strict=True)]
    right = [kind in NUMBERS for kind in found.types]

    def write(cells: Sequence[str]) -> None:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        ]
        out.write(("  ".join(padded).rstrip() + "\n").encode())

    write(list(found.columns))
    write(["─" * width for width in widths])
    for cells in itertools.chain(head, rows):
        write(cells)


def comma_separated(found: Rows, out: BinaryIO) -> None:
    """RFC 4180 with a header; lists and objects as JSON, nothing for a missing value.

    Texts are not altered, so a spreadsheet may take one that begins with = + - @ for a formula: import it as text.
    """
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(found.columns)
    for row in found.rows:
        writer.writerow([_cell(value) for value in row])
    text.detach()


def json_array(found: Rows, out: BinaryIO) -> None:
    """One array, an object a line."""
    start = b"[\n"
    for row in found.rows:
        record = {name: _finite(value) for name, value in zip(found.columns, row, strict=True)}
        out.write(start + json.dumps(record, ensure_ascii=False, default=_moment).encode())
        start = b",\n"
    out.write(b"\n]\n" if start == b",\n" else b"[]\n")


def parquet(found: Rows, out: BinaryIO) -> None:
    """Typed columns, also where all values are missing; objects as JSON texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        16: pa.bool_(),
        20: pa.int64(),
        21: pa.int16(),
        23: pa.int32(),
        700: pa.float32(),
        701: pa.float64(),
        1007: pa.list_(pa.int32()),
        1009: pa.list_(pa.string()),
        1021: pa.list_(pa.float32()),
        1184: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(n, types.get(kind, pa.string())) for n, kind in zip(found.columns, found.types, strict=True)])
    with pq.ParquetWriter(out, schema) as writer:
        for block in _blocks(found.rows, BLOCK):
            columns = [
                pa.array([json.dumps(v, ensure_ascii=False) if isinstance(v, dict) else v for v in column], field.type)
                for column, field in zip(zip(*block, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=schema))


FORMATS: dict[str, Callable[[Rows, BinaryIO], None]] = {
    "table": table,
    "csv": comma_separated,
    "json": json_array,
    "parquet": parquet,
}


def _blocks(rows: Iterator[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    while block := list(itertools.islice(rows, size)):
        yield block


def readable(value: Any) -> str:
    """A value for people to look at: one line, no control characters, not overlong."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = ", ".join(map(readable, value)) if isinstance(value, list) else str(_cell(value))
    text = printable(text)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=_moment)
    return _moment(value) if isinstance(value, datetime) else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _moment(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
