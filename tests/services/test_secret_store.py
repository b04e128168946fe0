"""Secrets are made once, readable by their owner alone, and never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from llmser_tasks.errors import StorageError
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


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"jwt": "x"}'])
def test_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    (tmp_path / secret_store.FILE).write_text(damage)
    with pytest.raises(StorageError, match=r"secrets\.json is damaged; remove it"):
        secret_store.load_or_make(tmp_path)


def test_private_file_replaces_a_readable_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o644)
    secret_store.write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
