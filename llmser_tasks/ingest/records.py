"""A dump as a stream of records, however it lays them out: a line each, the elements of a JSON array, the rows of a CSV
or Parquet file. Its first bytes give the layout away; what a record means is up to the source.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, cast

import pyarrow as pa

from llmser_tasks.core.errors import InputError
from llmser_tasks.ingest import arrays, looks, tables
from llmser_tasks.ingest.dumps import BROKEN, Dump, content, split
from llmser_tasks.ingest.source import Source

FIRST = 1 << 16  # bytes in which the first line must end if it is to be a table's
JUDGED = 1000  # rows without a header whose ids are looked at

Block = Sequence[tuple[int, Any]]  # numbers, and what is there: bytes to be parsed, or a record


class Records:
    """Blocks of a dump's records, and how far into the (compressed) file they go.

    Attributes:
        position: bytes of the file read.
        count: records handed out.
        name: of the file; for a .tar with the member's name behind a slash.
        columns: names that a table without a header was read with, in their order; None for anything else.
    """

    def __init__(self, dump: Dump, source: Source, what: str) -> None:
        self.dump = dump
        self.source = source
        self.what = what
        self.size = dump.path.stat().st_size
        self.position = 0
        self.count = 0
        self.name = dump.path.name
        self.columns: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[Block]:
        """
        Raises:
            InputError: the file breaks off, is damaged, or of a kind that cannot be read.
        """
        path = self.dump.path
        try:
            with path.open("rb", buffering=0) as raw:
                start = raw.read(len(tables.PARQUET))
                raw.seek(0)
                for block in self._parquet() if start == tables.PARQUET else self._streamed(raw):
                    self.count += len(block)
                    yield block
            self.position = self.size
        except (*BROKEN, pa.ArrowException) as error:
            why = str(error)[:200] or type(error).__name__
            raise InputError(
                f"{path} is cut off or damaged: it can be read up to line {self.count:,}, about "
                f"{self.position:,} of {self.size:,} bytes ({why}); fetch it again."
            ) from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read after line {self.count:,}: {error.strerror or error}; check the disk it is on."
            ) from None

    def _streamed(self, raw: IO[bytes]) -> Iterator[Block]:
        with content(self.dump, raw) as (stream, member):
            self.name = f"{self.dump.path.name}/{member}" if member else self.dump.path.name
            start = _start(stream)
            looks.refuse(self.dump.path, start[: looks.START])
            if start.startswith(tables.PARQUET):
                raise InputError(f"{self.dump.path} is a Parquet file within another; unpack it and give the file.")
            blocks = self._laid_out(cast(IO[bytes], _Again(start, stream)), start)
            for block in blocks:
                self.position = raw.tell()
                yield block

    def _laid_out(self, stream: IO[bytes], start: bytes) -> Iterator[Block]:
        if arrays.BEGINS.match(start):
            yield from _numbered(arrays.elements(stream))
            return
        line = next((line for line in start.split(b"\n") if line.strip()), b"")
        try:
            how = tables.header(line, self.source, self.what)
        except tables.NoColumn as error:
            raise InputError(f"{self.dump.path} cannot be read as a table: {error}.") from None
        if how is None:
            yield from _numbered(split(stream))
        elif how.given:
            yield from tables.csv_records(split(stream), how)
        else:
            yield from self._without_header(tables.csv_records(split(stream), how))

    def _without_header(self, blocks: Iterator[list[tuple[int, tables.Record]]]) -> Iterator[Block]:
        self.columns = self.source.ratings_columns
        first = next(blocks, [])
        if tables.exchanged((record for _, record in islice(first, JUDGED)), self.source):
            raise InputError(
                f"{self.dump.path} has no column names, and {self.source.name} has {', '.join(self.columns)} in this "
                "order; but where the users should be are items. The edition of 2018 has the item first, that of 2014 "
                "the user: set source to the right one, or put a line with the names on top."
            )
        yield first
        yield from blocks

    def _parquet(self) -> Iterator[Block]:
        try:
            for block, share in tables.parquet_records(self.dump.path, self.source, self.what):
                self.position = int(share * self.size)
                yield block
        except tables.NoColumn as error:
            raise InputError(f"{self.dump.path} cannot be read as a table: {error}.") from None


def _numbered(blocks: Iterator[list[bytes]]) -> Iterator[Block]:
    before = 0
    for lines in blocks:
        yield list(enumerate(lines, before + 1))
        before += len(lines)


def _start(stream: io.BufferedReader) -> bytes:
    """The first bytes of a stream: FIRST of them, or all there are."""
    start = b""
    while len(start) < FIRST and (more := stream.read(FIRST - len(start))):
        start += more
    return start


class _Again:
    """A stream of which the first bytes were read already."""

    def __init__(self, start: bytes, rest: io.BufferedReader) -> None:
        self._start = start
        self._rest = rest
        self._drained = False

    def read(self, size: int) -> bytes:
        if self._start:
            given, self._start = self._start[:size], self._start[size:]
            return given
        if not self._drained:  # what the buffer holds already is not lost where the rest is damaged
            self._drained = True
            if given := self._rest.read1(size):
                return given
        return self._rest.read(size)
