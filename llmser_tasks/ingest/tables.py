"""Tables as records: CSV with or without a header, and Parquet. Whatever the columns are called, a record has the names
of the dataset's source, so that one rule turns it into a row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.ingest.source import Source


class NoColumn(ValueError):
    """Nobody can tell which column is which; the message says what to do."""


ROWS = 1 << 14  # of a Parquet file at a time
PARQUET = b"PAR1"
DELIMITERS = (",", "\t", ";")
ALIASES = {  # what columns are called elsewhere; case, `_`, `-` and RecBole's `:type` do not count
    "user": ("user", "userid", "reviewerid", "uid", "customerid"),
    "item": ("item", "itemid", "asin", "parentasin", "businessid", "productid", "movieid"),
    "time": ("timestamp", "time", "unixreviewtime", "unixtimestamp", "date", "datetime"),
    "rating": ("rating", "overall", "stars", "score"),
    "title": ("title", "name", "itemname", "itemtitle"),
}
DETAILS = {  # the usual names of what a source knows as details
    "brand": ("brand", "brandname", "store", "manufacturer"),
    "categories": ("categories", "category", "genres", "genre", "class"),
    "city": ("city",),
    "price": ("price",),
    "description": ("description",),
}
NEEDED = {"review": ("user", "item", "time"), "item": ("item", "title")}


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read, and why."""

    reason: str


Record = dict[str, Any] | Broken


@dataclass(frozen=True)
class Header:
    """Which column holds what: the source's field → the column's place; and whether a header said so. `details` are
    fields that a row may lack, or have in any bytes.
    """

    fields: Mapping[str, int]
    given: bool
    delimiter: str = ","
    details: Mapping[str, int] = field(default_factory=dict)


def by_name(names: Sequence[str], source: Source, what: str) -> dict[str, int]:
    """The source's fields among these columns: by the source's own names, else by the usual ones.

    Raises:
        NoColumn: a field has no column, or two that it might be.
    """
    fields: dict[str, int] = {}
    plain = [_plain(name) for name in names]
    for role, aliases in ALIASES.items():
        own = getattr(source, role)
        if own in names:
            fields[own] = names.index(own)
            continue
        found = [place for place, name in enumerate(plain) if name in aliases]
        if len(found) > 1 and role not in (*NEEDED[what], "rating"):
            continue
        if len(found) > 1:
            raise NoColumn(
                f"the columns {' and '.join(_shown(names[place]) for place in found)} may both be the {role}; "
                f"rename the one that is to {own}, or leave the other out"
            )
        if found:
            fields[own] = found[0]
        elif role in NEEDED[what]:
            raise NoColumn(
                f"no column is the {role} ({own}); there are: {', '.join(map(_shown, names[:12])) or 'none'}. Rename "
                f"the one that is"
            )
    return fields


def details_by_name(names: Sequence[str], source: Source, taken: Mapping[str, int]) -> dict[str, int]:
    """The source's details among the columns that are not taken: by its own names, else by the first usual one."""
    plain = [_plain(name) for name in names]
    fields: dict[str, int] = {}
    for detail in source.details:
        usual = [plain.index(alias) for alias in DETAILS.get(detail.name, ()) if alias in plain]
        places = [names.index(detail.field)] if detail.field in names else usual
        if free := [place for place in places if place not in {*taken.values(), *fields.values()}]:
            fields[detail.field] = free[0]
    return fields


def header(line: bytes, source: Source, what: str) -> Header | None:
    """How to read a text file as CSV, going by its first line; None: it is not CSV.

    Without a header the columns are the source's, in its own order; that is not for guessing, because orders differ:
    amazon-2014 has the user first, amazon-2018 the item.

    Raises:
        NoColumn: it is a table whose columns cannot be told.
    """
    try:
        text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        return None
    needed = NEEDED[what]
    for delimiter in DELIMITERS:
        names = _cells(text, delimiter)
        if len(names) < 2 or names[0].startswith(("{", "[")):
            continue
        known = {
            role
            for role, aliases in ALIASES.items()
            if {getattr(source, role), *aliases} & {*names, *map(_plain, names)}
        }
        if len(known & set(needed)) >= 2:
            fields = by_name(names, source, what)
            told = details_by_name(names, source, fields) if what == "item" else {}
            return Header(fields, True, delimiter, told)
        if what == "review" and len(names) in (3, 4) and _is_number(names[-1]):
            return _without_header(names, source, delimiter)
    return None


def _without_header(cells: list[str], source: Source, delimiter: str) -> Header:
    columns = source.ratings_columns
    if len(cells) != 4 or not columns:
        raise NoColumn(
            "its columns have no names, and only Amazon's ratings with four columns are known without: put one line "
            f"with the names on top, such as {','.join((source.user, source.item, source.rating, source.time))}"
        )
    return Header({field: place for place, field in enumerate(columns)}, False, delimiter)


def csv_records(lines: Iterator[list[bytes]], how: Header) -> Iterator[list[tuple[int, Record]]]:
    """Records with their numbers in the file, a list per block of lines; a field may hold line breaks. Empty cells are
    missing.
    """
    blocks = _Decoded(lines)
    reader = csv.reader(blocks, delimiter=how.delimiter)
    held: list[tuple[int, Record]] = []
    first = how.given
    width = max(how.fields.values()) + 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            held.append((reader.line_num, Broken(f"no CSV: {error}")))
            continue
        if first:
            first = False
        elif not row:
            held.append((reader.line_num, {}))
        elif len(row) < width:
            held.append((reader.line_num, Broken(f"fewer than {width} columns")))
        elif any("\udc80" <= c <= "\udcff" for place in how.fields.values() for c in row[place]):
            held.append((reader.line_num, Broken("not UTF-8")))
        else:
            cells = {f: row[place] for f, place in how.fields.items() if row[place]}
            cells |= {f: row[place] for f, place in how.details.items() if place < len(row) and row[place]}
            held.append((reader.line_num, cells))
        if blocks.turned:
            blocks.turned = False
            yield held
            held = []
    yield held


class _Decoded:
    """Text lines from blocks of bytes; `turned` when a new block has begun."""

    def __init__(self, blocks: Iterator[list[bytes]]) -> None:
        self.blocks = blocks
        self.lines: Iterator[bytes] = iter(())
        self.turned = False
        self.begun = False

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        while (line := next(self.lines, None)) is None:
            self.lines = iter(next(self.blocks))
            self.turned = self.begun
        if not self.begun:
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.begun = True
        return line.decode("utf-8", errors="surrogateescape").replace("\x00", "\ufffd") + "\n"


def parquet_records(path: Path, source: Source, what: str) -> Iterator[tuple[list[tuple[int, Record]], float]]:
    """Records with their numbers, and the share of the file read, ROWS at a time and a row group's pages as they come.

    Raises:
        NoColumn: a field has no column.
        pyarrow.ArrowInvalid, OSError: the file is damaged.
    """
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        names = file.schema_arrow.names
        fields = by_name(names, source, what)
        if what == "item":
            fields |= details_by_name(names, source, fields)
        total = file.metadata.num_rows
        done = 0
        columns = {place: names[place] for place in fields.values()}
        for batch in file.iter_batches(ROWS, columns=list(columns.values())):
            values = {
                field: _values(batch.column(batch.schema.get_field_index(columns[place])))
                for field, place in fields.items()
            }
            rows = zip(*values.values(), strict=True)
            yield (
                [
                    (number, {f: value for f, value in zip(values, row, strict=True) if value is not None})
                    for number, row in enumerate(rows, done + 1)
                ],
                (done + batch.num_rows) / max(total, 1),
            )
            done += batch.num_rows


def _values(column: pa.Array) -> list[Any]:
    """Python values; times as Parquet has them become `datetime`s, days midnights in UTC."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms", tz="UTC"))
    elif pa.types.is_timestamp(column.type):
        column = (
            column.cast(pa.timestamp("ms", tz="UTC"), safe=False)
            if column.type.tz
            else column.cast(pa.timestamp("ms"), safe=False).cast(pa.timestamp("ms", tz="UTC"))
        )
    elif pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    return values


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.split(":")[0]).lower()


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name[:40])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def exchanged(rows: Iterable[Record], source: Source) -> bool:
    """Whether the user and item columns of a table without names look swapped, by the shape of Amazon's ids."""
    shapes = [
        (bool(_ASIN.fullmatch(str(row.get(source.user, "")))), bool(_ASIN.fullmatch(str(row.get(source.item, "")))))
        for row in rows
        if isinstance(row, dict)
    ]
    users, items = (sum(shape[place] for shape in shapes) for place in (0, 1))
    return users > 0.9 * len(shapes) and items < 0.1 * len(shapes) and len(shapes) > 0


_ASIN = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
