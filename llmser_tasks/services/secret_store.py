"""Secrets of the local services: made once per home, kept in one file that only its owner reads."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llmser_tasks.errors import StorageError

FILE = "secrets.json"


@dataclass(frozen=True, repr=False)
class Secrets:
    """What Airflow needs to sign and encrypt, and the password that opens its page."""

    jwt: str
    fernet: str
    session: str
    admin_password: str


def load_or_make(home: Path) -> Secrets:
    """The home's secrets.

    Raises:
        StorageError: the file is there but damaged.
    """
    path = home / FILE
    try:
        stored = json.loads(path.read_text())
        return Secrets(**{field.name: str(stored[field.name]) for field in fields(Secrets)})
    except FileNotFoundError:
        made = Secrets(
            jwt=secrets.token_urlsafe(48),
            fernet=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            session=secrets.token_urlsafe(32),
            admin_password=secrets.token_urlsafe(12),
        )
        write_private(path, json.dumps(asdict(made), indent=2))
        return made
    except (ValueError, KeyError, TypeError):
        raise StorageError(
            f"{path} is damaged; remove it and start again: new secrets and a new login are made."
        ) from None


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, at no moment, and that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
