from pathlib import Path

import pytest
from sqlalchemy import text

from llmser_tasks.errors import InputError, StorageError
from llmser_tasks.warehouse import runs
from llmser_tasks.warehouse.backup import backup, restore
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import migrate


def test_a_backup_brings_back_what_there_was(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.backup"
    runs.create(database_url, "kept", "sample", {"title": "O'Neil \\ \n☃"})
    backup(database_url, file)
    runs.create(database_url, "later", "sample", {})
    with transaction(database_url) as connection:  # of a later release
        connection.execute(text("create table newer as select run_id from runs"))
    restore(database_url, file)
    with transaction(database_url) as connection:
        assert list(connection.scalars(text("select run_id from runs"))) == ["kept"]
        assert connection.scalar(text("select to_regclass('llmser.newer')")) is None
    assert runs.load(database_url, "kept").config == {"title": "O'Neil \\ \n☃"}
    migrate(database_url)
    assert file.stat().st_mode & 0o077 == 0


def test_an_empty_place_takes_a_backup(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "kept", "sample", {})
    backup(database_url, tmp_path / "file")
    restore(empty_database_url, tmp_path / "file")
    assert runs.load(empty_database_url, "kept").dataset == "sample"


def test_what_is_no_backup_changes_nothing(database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "kept", "sample", {})
    (tmp_path / "file").write_text("drop schema llmser cascade")
    with pytest.raises(InputError, match="is no backup of the warehouse"):
        restore(database_url, tmp_path / "file")
    backup(database_url, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((InputError, StorageError)):
        restore(database_url, tmp_path / "half")
    assert runs.load(database_url, "kept").dataset == "sample"


def test_a_failed_backup_leaves_the_former_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("former")
    with pytest.raises(StorageError, match=r"pg_dump at 127.0.0.1:1/x failed") as failure:
        backup("postgresql://u:secret@127.0.0.1:1/x", tmp_path / "file")
    assert "secret" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "former"
