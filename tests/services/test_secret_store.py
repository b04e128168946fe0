"""Secrets are made once, readable by their owner alone, and never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from llmser_tasks.core.errors import StorageError
from llmser_tasks.services import secret_store


def test_made_once_private_and_strong(tmp_path: Path) -> None:
    first = secret_store.load_or_make(tmp_path / "home")
    file = tmp_path / "home" / secret_store.FILE

    assert secret_store.load_or_make(tmp_path / "home") == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.urlsafe_b64decode(first.fernet)) == 32
    assert len(first.jwt) >= 64  # HS512 asks for as many bytes
    assert secret_store.load_or_make(tmp_path / "other") != first
    assert first.admin_password not in repr(first) and first.jwt not in repr(first)


def test_a_file_of_an_earlier_version_gets_what_it_lacks_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / secret_store.FILE
    secret_store.load_or_make(tmp_path)
    kept = json.loads(file.read_text())
    del kept["ranker_key"]
    file.write_text(json.dumps(kept))
    found = secret_store.load_or_make(tmp_path)
    assert vars(found) == kept | {"ranker_key": found.ranker_key} and len(found.ranker_key) > 40
    assert secret_store.load_or_make(tmp_path) == found
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["jwt", "fernet", "session", "admin_password", "ranker_key"])
@pytest.mark.parametrize("value", [None, 3, [], {}, "", True])
def test_a_secret_that_is_none_is_never_taken_for_one(name: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / secret_store.FILE
    secret_store.load_or_make(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(StorageError, match=r"secrets\.json is damaged; remove it"):
        secret_store.load_or_make(tmp_path)


FERNET = '{"jwt": "x", "fernet": "short", "session": "x", "admin_password": "x"}'


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"jwt": "x"}', "\xff\xfe", "[" * 100_000, "null", FERNET])
def test_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    (tmp_path / secret_store.FILE).write_bytes(damage.encode("latin-1"))
    with pytest.raises(StorageError, match=r"secrets\.json is damaged; remove it"):
        secret_store.load_or_make(tmp_path)


def test_private_file_replaces_a_readable_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o644)
    secret_store.write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
