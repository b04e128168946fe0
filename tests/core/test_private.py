"""What we make is its user's alone; what they asked us to hand out is made as their shell would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.private import close_to_strangers, read_private, write_private


def llmser(home: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "llmser_tasks.cli", *arguments],
        env=os.environ | {"LLMSER_HOME": str(home)},
        umask=0o022,
        check=True,
        capture_output=True,
    )


def shown_to_others(folder: Path) -> list[Path]:
    """What others may read or list. Root's folders may be passed through: its Postgres runs as another user."""
    return [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o066]


def test_what_lies_in_the_home_is_for_its_user_alone(tmp_path: Path) -> None:
    llmser(tmp_path / "home", "sample", "--users", "50", "--items", "20")
    made = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert made and shown_to_others(tmp_path / "home") == []


def test_what_was_asked_for_elsewhere_is_made_as_the_users_shell_would(tmp_path: Path) -> None:
    llmser(tmp_path / "home", "sample", "--users", "50", "--items", "20", "-o", str(tmp_path / "out"))
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert made and {path.stat().st_mode & 0o777 for path in made} == {0o644}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_folders_of_an_earlier_version_are_closed_to_strangers_and_left_to_their_group(tmp_path: Path) -> None:
    for before, after in ((0o755, 0o750), (0o2775, 0o2770), (0o700, 0o700)):
        tmp_path.chmod(before)
        close_to_strangers(tmp_path)
        assert tmp_path.stat().st_mode & 0o7777 == after
    close_to_strangers(tmp_path / "none")


def test_a_private_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none.json", "make another") is None
    write_private(tmp_path / "one.json", '{"name": "“Ω”"}')
    assert read_private(tmp_path / "one.json", "make another") == {"name": "“Ω”"}


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"null", b'{"a": ""}', b'{"a": 1}', b'{"a": null}', b"\xff", b"[" * 9999]
)
def test_a_damaged_one_is_one_sentence_with_its_remedy(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(damage)
    with pytest.raises(StorageError, match=r"one\.json is damaged; make another\.$"):
        read_private(tmp_path / "one.json", "make another")


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        read_private(tmp_path, "make another")
