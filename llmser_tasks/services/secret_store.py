"""Secrets of the local services: made once per home, kept in one file that only its owner reads."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.private import read_private, write_private

__all__ = ["Secrets", "load_or_make", "write_private"]

FILE = "secrets.json"
REMEDY = "remove it and start again: new secrets and a new login are made"
ADDED = {"ranker_key"}  # by a later version: a file may lack it


@dataclass(frozen=True, repr=False)
class Secrets:
    """What Airflow needs to sign and encrypt, the password that opens its page, and the embedding ranker's key."""

    jwt: str
    fernet: str
    session: str
    admin_password: str
    ranker_key: str


def load_or_make(home: Path) -> Secrets:
    """The home's secrets; one that a later version needs is added to those that are there.

    Raises:
        StorageError: the file is there but damaged, or another user's.
    """
    path = home / FILE
    made = {
        "jwt": secrets.token_urlsafe(48),
        "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "session": secrets.token_urlsafe(32),
        "admin_password": secrets.token_urlsafe(12),
        "ranker_key": secrets.token_urlsafe(32),
    }
    kept = read_private(path, REMEDY)
    if kept is None:
        kept = made
    elif not made.keys() - kept.keys() <= ADDED or not _is_fernet(kept["fernet"]):
        raise StorageError(f"{path} is damaged; {REMEDY}.")
    found = {name: kept.get(name, new) for name, new in made.items()}
    if kept is made or found.keys() != kept.keys():
        write_private(path, json.dumps(found, indent=2))
    return Secrets(**found)


def _is_fernet(key: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except ValueError:
        return False
