"""From lines to typed rows: usable lines go to Parquet in the dump's order, the others to the quarantine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import Progress
from llmser_tasks.ingest.dumps import TOO_LONG, Dump
from llmser_tasks.ingest.records import Records
from llmser_tasks.ingest.source import Source, Unusable
from llmser_tasks.ingest.sources import advice
from llmser_tasks.ingest.tables import Broken

log = logging.getLogger(__name__)

ROWS = 1 << 16  # rows per Parquet row group: what is held in memory
HOPELESS = 10_000  # lines without a usable one before a dump is called the wrong format
QUARANTINE = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])
REVIEWS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("rating", pa.float32()),
        ("line", pa.int64()),
    ]
)


def items_schema(source: Source) -> pa.Schema:
    texts = ("item_id", "title", *(detail.name for detail in source.details))
    return pa.schema([*((text, pa.string()) for text in texts), ("line", pa.int64())])


class Table:
    """A Parquet file that rows are appended to; a row group is written whenever ROWS are there."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=False)  # ids hardly repeat within a row group
        self._rows: list[tuple[Any, ...]] = []

    def extend(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows.extend(rows)
        while len(self._rows) >= ROWS:
            self._write(self._rows[:ROWS])
            del self._rows[:ROWS]

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._rows:
            self._write(self._rows)
        self._writer.close()


@dataclass
class Read:
    """What became of a dump's lines: `lines` = `rows` + `blank` + the quarantined."""

    lines: int = 0
    rows: int = 0
    blank: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason
    files: Counter[str] = field(default_factory=Counter)  # the quarantined, by the file that they are in

    def __add__(self, other: Read) -> Read:
        return Read(
            self.lines + other.lines,
            self.rows + other.rows,
            self.blank + other.blank,
            self.quarantined + other.quarantined,
            self.files + other.files,
        )


def read_reviews(dumps: Sequence[Dump], source: Source, rows: Table, quarantine: Table, progress: Progress) -> Read:
    """Append the dumps' reviews: (user_id, item_id, timestamp in ms, rating or None, line).

    Lines count from 1 and go on from dump to dump; in the quarantine each dump's count from 1.
    """
    read = Read()
    for dump in dumps:
        read += _read(dump, source, "review", source.review, rows, quarantine, progress, read.lines)
    return read


def read_items(dumps: Sequence[Dump], source: Source, rows: Table, quarantine: Table, progress: Progress) -> Read:
    """Append the item dumps' lines: (item_id, clean title or None, details or None, line); lines count as
    those of reviews."""
    read = Read()
    for dump in dumps:
        read += _read(dump, source, "item", source.item_row, rows, quarantine, progress, read.lines)
    return read


def _read(
    dump: Dump,
    source: Source,
    what: str,
    row: Callable[[Any], tuple[Any, ...]],
    table: Table,
    quarantine: Table,
    progress: Progress,
    before: int,
) -> Read:
    read = Read()
    records = Records(dump, source, what)
    first: Any = None  # first record that cannot be used
    for block in records:
        good: list[tuple[Any, ...]] = []
        bad: list[tuple[str, int, str, str]] = []
        for number, raw in block:
            try:
                record = _parsed(raw, source) if type(raw) is bytes else raw
                if record is BLANK or (record is raw and not record):  # of a table: a row without a cell
                    read.blank += 1
                    continue
                if type(record) is Broken:
                    raise Unusable(record.reason)
                good.append((*row(record), before + number))
            except Unusable as reason:
                first = raw if first is None else first
                bad.append((records.name, number, str(reason), _excerpt(raw)))
        table.extend(good)
        quarantine.extend(bad)
        read.lines += len(block)
        read.rows += len(good)
        read.quarantined.update(reason for _, _, reason, _ in bad)
        read.files.update(name for name, _, _, _ in bad)
        progress(records.position, records.size, "bytes", f"{read.lines:,} {what} lines")
        if not read.rows and read.lines >= HOPELESS:
            break
    if not read.rows:
        raise _nothing_usable(dump, source, what, read, first)
    if records.columns:
        log.info("%s has no column names and was read as %s.", records.name, ", ".join(records.columns))
    return read


BLANK = object()


def _parsed(line: bytes, source: Source) -> Any:
    """What a line holds; BLANK if nothing.

    Raises:
        Unusable: it cannot be read.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        if not (line := line.strip().removeprefix(b"\xef\xbb\xbf")):
            return BLANK
        if line.endswith(TOO_LONG):
            raise Unusable("longer than 16 MiB") from None
        try:
            return source.lenient(line)
        except Unusable:
            if _is_cp1252(line, source):
                raise Unusable("not UTF-8 but cp1252 or Latin-1") from None
            raise


def _is_cp1252(line: bytes, source: Source) -> bool:
    """Whether a line could be read as the Windows code page of the West."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        try:
            source.lenient(line.decode("cp1252").encode("utf-8"))
        except (Unusable, UnicodeDecodeError):
            return False
        return True
    return False


def _excerpt(raw: Any) -> str:
    text = raw[:800].decode("utf-8", errors="replace") if type(raw) is bytes else str(raw)
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:200])


def _nothing_usable(dump: Dump, source: Source, what: str, read: Read, first: Any) -> InputError:
    if not read.quarantined:
        return InputError(f"{dump.path} has no line with anything in it; fetch it again.")
    fields = source.review_fields if what == "review" else source.item_fields
    reasons = "; ".join(f"{count:,} × {reason}" for reason, count in read.quarantined.most_common(3))
    return InputError(
        f"No line of {dump.path} is {'an' if what == 'item' else 'a'} {what} of {source.name} with {', '.join(fields)} "
        f"(of the {read.lines:,} read: {reasons}). {advice(first, source, what)}"
    )
