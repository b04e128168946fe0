"""Dump files as streams: plain, gzip (several members too), .tar, .tar.gz; told apart by their first bytes.

Memory is a few blocks, however large the file or its longest line. Whatever is wrong with a file is said in one
sentence, which names the file and how far it could be read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import Progress
from llmser_tasks.ingest import looks

BLOCK = 1 << 20
LONGEST_LINE = 16 << 20
TOO_LONG = b"\x00too long"  # ends the stump kept of a line over LONGEST_LINE; makes it invalid in any format


class BrokenOff(Exception):
    """The content of a file breaks off; the message says what is missing."""


BROKEN = (BrokenOff, EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError)


@dataclass(frozen=True)
class Dump:
    """A file to read.

    Attributes:
        member: how the wanted file's name ends where `path` is a .tar; None where the format has no .tar.
    """

    path: Path
    member: str | None = None


@dataclass(frozen=True)
class Identity:
    """What a file was when it was hashed."""

    sha256: str
    bytes: int
    modified_ns: int


def check(path: Path, what: str) -> None:
    """Refuse, before any work, what cannot be a dump.

    Raises:
        InputError: it is missing, a folder, empty, not readable, or of a kind that is known to be no dump.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"The {what} dump {path} is a folder; give the file inside it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"The {what} dump {path} is not a regular file; save it to disk first.")
        with path.open("rb") as file:
            start = file.read(looks.START)
        if not start:
            raise InputError(f"The {what} dump {path} is empty (0 bytes); fetch it again.")
        looks.refuse(path, start)
    except FileNotFoundError:
        raise InputError(f"The {what} dump {path} does not exist; check the path.") from None
    except OSError as error:
        raise InputError(f"The {what} dump {path} cannot be read: {error.strerror or error}.") from None


def identify(path: Path, progress: Progress) -> Identity:
    """sha256 of a file, with its size and time of change, to notice if it is replaced during the run."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            status = path.stat()
            while block := file.read(BLOCK):
                digest.update(block)
                progress(file.tell(), status.st_size, "bytes", f"checking {path.name}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return Identity(digest.hexdigest(), status.st_size, status.st_mtime_ns)


def unchanged(path: Path, identity: Identity) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (identity.bytes, identity.modified_ns)


def split(content: IO[bytes], block: int = BLOCK, longest: int = LONGEST_LINE) -> Iterator[list[bytes]]:
    """Lists of lines. Of a line longer than `longest` only a stump is kept, marked by TOO_LONG."""
    rest: list[bytes] = []  # pieces of the line that is not finished
    held = 0
    while data := content.read(block):
        first, *lines = data.split(b"\n")
        if held <= longest:
            rest.append(first)
        held += len(first)
        if not lines:
            continue
        lines[:0] = [_joined(rest, held, longest)]
        rest, held = [lines[-1]], len(lines[-1])
        del lines[-1]
        yield lines
    if held:
        yield [_joined(rest, held, longest)]


def _joined(pieces: list[bytes], length: int, longest: int) -> bytes:
    if length > longest:
        return pieces[0][:200] + TOO_LONG
    return b"".join(pieces) if len(pieces) > 1 else pieces[0]


@contextmanager
def content(dump: Dump, raw: IO[bytes]) -> Iterator[tuple[io.BufferedReader, str | None]]:
    """The decompressed stream of a file, or that of the wanted member of an archive and its name."""
    start = raw.read(6)
    raw.seek(0)
    zipped = start.startswith(b"\x1f\x8b")
    plain = gzip.GzipFile(fileobj=raw, mode="rb") if zipped else raw
    stream = io.BufferedReader(cast(Any, plain), BLOCK)
    if stream.peek(512)[257:262] != b"ustar":
        yield stream, None
        return
    if dump.member is None:
        raise InputError(f"{dump.path} is a .tar, which only Yelp's dumps come in; unpack it and give the file.")
    seen: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            name = entry.name.rsplit("/", 1)[-1]
            if entry.isfile() and name.endswith(dump.member) and not name.startswith("._"):
                member = archive.extractfile(entry)
                assert isinstance(member, io.BufferedReader)
                yield member, name
                return
            if len(seen) < 8:
                seen.append(entry.name)
    raise InputError(f"{dump.path} holds no file whose name ends in {dump.member}; it holds: {', '.join(seen)}.")
