"""Files that nobody else on the machine may read: written whole, and checked when they are read back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmser_tasks.core.errors import StorageError

# What others may not do. Root's Postgres runs as another user, who must get through folders to its own.
OTHERS = 0o077 if os.geteuid() else 0o066
_before: list[int] = []  # the umask that we were started with


def keep_private() -> None:
    """From now on, whatever this process and its children make is for its user alone."""
    umask = os.umask(OTHERS)
    if not _before:
        _before.append(umask)
    os.umask(umask | OTHERS)


@contextmanager
def handed_out() -> Iterator[None]:
    """For the length of the block, files are made as the user's shell would: what they asked for is theirs to share."""
    umask = os.umask(_before[0]) if _before else None
    try:
        yield
    finally:
        if umask is not None:
            os.umask(umask)


def close_to_strangers(folder: Path) -> None:
    """Shut out everyone but its user and group, whom an earlier version let in; a group may be there on purpose."""
    try:
        mode = folder.stat().st_mode
        if mode & 0o007:
            folder.chmod(mode & 0o7770)
    except OSError:  # not there, or not ours
        pass


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read at any moment, and that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_private(path: Path, remedy: str) -> dict[str, str] | None:
    """An object of texts that `write_private` wrote; None where there is no file.

    Args:
        remedy: what to do about a damaged one, for the sentence.

    Raises:
        StorageError: it is damaged, or another user's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise StorageError(f"{path} belongs to another user; set LLMSER_HOME to a folder of yours.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) and value for value in found.values()):
        raise StorageError(f"{path} is damaged; {remedy}.")
    return found
