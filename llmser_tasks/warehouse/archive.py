"""What a file written by `pg_dump --format=custom` holds, without a word of it being run.

An archive brings its own SQL: definitions, and a statement for each table's rows. It may come from anywhere, so it is
only ever read: `pg_restore` writes it out as text, of which nothing but the rows of tables is taken. Rows are data in
COPY's text format; whoever takes them hands them to a statement of their own.
"""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.text import clean_title
from llmser_tasks.postgres.packed import packed_postgres
from llmser_tasks.warehouse.engine import SCHEMA

VERSION = "alembic_version"  # the table that says which release wrote it
_KINDS = (
    "SCHEMA|TABLE DATA|TABLE|VIEW|FUNCTION|COMMENT|FK CONSTRAINT|CONSTRAINT|INDEX"
    "|SEQUENCE SET|SEQUENCE OWNED BY|SEQUENCE|DEFAULT"
)
_ENTRY = re.compile(rf"\d+; \d+ \d+ (?P<kind>{_KINDS}) (?P<schema>\S+) (?P<name>.*) \S+")
_NAME = r'(?:[a-z_][a-z0-9_]*|"[a-z_][a-z0-9_]*")'
_COPY = re.compile(rf"COPY {SCHEMA}\.(?P<table>{_NAME}) \((?P<columns>{_NAME}(?:, {_NAME})*)\) FROM stdin;\n".encode())
_UTF8 = b"SET client_encoding = 'UTF8';\n"


@dataclass(frozen=True)
class Contents:
    """The release that wrote an archive, as its revision of the schema, and the tables whose rows it holds."""

    version: str
    tables: frozenset[str]


class Table(io.RawIOBase):
    """The rows of one table, as a file to read once.

    Attributes:
        rows: how many there were, known at the end.
    """

    def __init__(self, name: str, columns: list[str], lines: Iterator[bytes]) -> None:
        self.name = name
        self.columns = columns
        self.rows = 0
        self._lines = lines
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            line = next(self._lines, None)
            if line is None:
                break
            self.rows += 1
            parts.append(line)
            length += len(line)
        whole = b"".join(parts)
        size = len(whole) if size < 0 else size
        self._rest = whole[size:]
        return whole[:size]

    def skip(self) -> None:
        """Read to the end."""
        while self.read(1 << 16):
            pass


def contents(file: Path) -> Contents:
    """What an archive says of itself.

    Raises:
        InputError: it is no archive, or not of a warehouse; the sentence says what it holds instead.
    """
    done = subprocess.run([_pg_restore(), "--list", str(file)], capture_output=True, check=False)
    if done.returncode:
        raise InputError(f"{file} is no backup of the warehouse; `llmser backup` writes one.")
    names = set()
    for line in done.stdout.decode(errors="replace").splitlines():
        if not line.strip() or line.startswith(";"):
            continue
        entry = _ENTRY.fullmatch(line)
        if entry is None or not _is_ours(entry["kind"], entry["schema"], entry["name"]):
            raise InputError(
                f"{file} is no backup of the warehouse: it holds “{clean_title(line.split(' ', 3)[-1], 80)}”, which "
                "LLMSeR does not have. Nothing was restored; `llmser backup` writes what can be."
            )
        if entry["kind"] == "TABLE DATA":
            names.add(entry["name"])
    if VERSION not in names:
        raise InputError(f"{file} is no backup of the warehouse: it does not say which release of LLMSeR wrote it.")
    return Contents(_version(file), frozenset(names))


def tables(file: Path, only: str | None = None) -> Iterator[Table]:
    """The tables of an archive one after the other, each to be read before the next; memory does not grow with it.

    Raises:
        InputError: it is damaged or cut off, or its text is not UTF-8.
    """
    damaged = InputError(f"{file} is damaged or cut off; nothing was restored. Take another backup.")
    command = [_pg_restore(), "--data-only", *([f"--table={only}"] if only else []), "--file=-", str(file)]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints) as process,
    ):
        assert process.stdout is not None
        try:
            readable = False
            while line := process.stdout.readline():
                readable = readable or line == _UTF8
                found = _COPY.fullmatch(line)
                if found is None:
                    continue  # whatever else it says is not for us
                if not readable:
                    raise InputError(f"{file} is not in UTF-8, in which LLMSeR writes; nothing was restored.")
                columns = [name.strip('"') for name in found["columns"].decode().split(", ")]
                table = Table(found["table"].decode().strip('"'), columns, _rows(process.stdout, damaged))
                yield table
                table.skip()
            if process.wait() != 0:
                raise damaged
        finally:
            process.kill()


def _rows(stream: IO[bytes], damaged: InputError) -> Iterator[bytes]:
    """Lines up to the one that ends a table's rows."""
    for line in iter(stream.readline, b""):
        if line == b"\\.\n":
            return
        yield line
    raise damaged


def _is_ours(kind: str, schema: str, name: str) -> bool:
    if schema == "-":  # of the schema itself
        return (kind, name) in {("SCHEMA", SCHEMA), ("COMMENT", f"SCHEMA {SCHEMA}")}
    return schema == SCHEMA


def _version(file: Path) -> str:
    found = [line for table in tables(file, VERSION) if table.name == VERSION for line in table.read().splitlines()]
    if len(found) != 1 or not re.fullmatch(rb"\d{4,8}", found[0]):
        raise InputError(f"{file} is no backup of the warehouse: it does not say which release of LLMSeR wrote it.")
    return found[0].decode()


def _pg_restore() -> str:
    return str(packed_postgres() / "bin" / "pg_restore")
