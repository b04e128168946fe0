"""What lies in `HOME/postgres` beside the data: a lock, who uses an on-demand server, and the passwords."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.private import read_private, write_private

ADMIN = "postgres"
DATABASES = ("llmser", "airflow")  # each with an owner of the same name, who is no superuser
USERS = ".users"  # locked by everyone who uses an on-demand server; the kernel lets go of a killed one's lock


def folder_of(home: Path) -> Path:
    return home.absolute() / "postgres"


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One start or stop at a time; the kernel lets go when the holder dies."""
    folder = folder_of(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"Cannot write {folder}: {error.strerror}; set LLMSER_HOME to a folder of yours.") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def alone(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def passwords(home: Path) -> dict[str, str]:
    """Passwords by role; made before the data folder that they open."""
    folder = folder_of(home)
    path = folder / "passwords.json"
    kept = read_private(path, f"restore it, or remove {folder} with the database in it")
    if kept is not None:
        if not {ADMIN, *DATABASES} <= kept.keys():
            raise StorageError(f"{path} lacks a password; restore it, or remove {folder} with the database in it.")
        return kept
    if (folder / "data").exists():
        raise StorageError(f"{path} is gone, so the database cannot be opened; restore it, or remove {folder}.")
    made = {role: secrets.token_urlsafe(24) for role in (ADMIN, *DATABASES)}
    write_private(path, json.dumps(made))
    return made
