"""A backup is whole, or there is none; a restore brings all of it or changes nothing, and runs no foreign SQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filled_warehouse import FINISHED, fill
from sqlalchemy import text

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.packed import packed_postgres
from llmser_tasks.warehouse import archive
from llmser_tasks.warehouse.backup import backup, forget, restore
from llmser_tasks.warehouse.engine import engine, parsed, transaction
from llmser_tasks.warehouse.liveness import living
from llmser_tasks.warehouse.migrations import SCRIPTS, migrate
from llmser_tasks.warehouse.tables import notices, runs
from llmser_tasks.warehouse.tables.notices import Notice


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
    with pytest.raises(StorageError, match=r"Postgres at 127.0.0.1:1/x cannot be used") as failure:
        backup("postgresql://u:secret@127.0.0.1:1/x", tmp_path / "file", force=True)
    assert "secret" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "former"


# What a backup is


def test_a_file_that_is_there_is_replaced_only_when_asked(database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "r", "sample", {})
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"file is there already; name another file, or .* --force"):
        backup(database_url, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    backup(database_url, tmp_path / "file", force=True)
    assert "runs" in archive.contents(tmp_path / "file").tables
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_an_empty_warehouse_is_not_backed_up(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"is empty: no run, no answer\. Nothing was written"):
        backup(database_url, tmp_path / "file", force=True)
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_written_is_read_again_and_a_damaged_one_is_no_backup(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmser_tasks.warehouse import backup as module

    fill(database_url)
    written = module._run

    def cut_off(url: str, program: str, *arguments: str) -> None:
        written(url, program, *arguments)
        (part,) = tmp_path.glob(".file.*.part")
        os.truncate(part, part.stat().st_size // 2)

    monkeypatch.setattr(module, "_run", cut_off)
    with pytest.raises(StorageError, match="cannot be read again; check the disk"):
        backup(database_url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_everything_comes_back_row_for_row(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    fill(database_url)
    rows = backup(database_url, tmp_path / "file")
    restored = restore(empty_database_url, tmp_path / "file")
    assert restored.rows == rows and restored.former is None
    assert everything(empty_database_url) == everything(database_url)
    assert constraints(empty_database_url) == constraints(database_url)
    assert runs.load(empty_database_url, FINISHED).state == "succeeded"


def everything(url: str) -> dict[str, list[str]]:
    listed = "select tablename from pg_tables where schemaname = 'llmser' order by 1"
    with transaction(url) as connection:
        return {
            table: sorted(connection.scalars(text(f"select t::text from llmser.{table} t")))
            for table in connection.scalars(text(listed)).all()
        }


def constraints(url: str) -> list[str]:
    query = """
        select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
        where connamespace = cast('llmser' as regnamespace) union all select indexdef from pg_indexes
        where schemaname = 'llmser' order by 1
    """
    with transaction(url) as connection:
        return list(connection.scalars(text(query)))


# What is kept


def test_the_warehouse_before_is_kept_until_somebody_drops_it(database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "backed up", "sample", {})
    backup(database_url, tmp_path / "file")
    runs.create(database_url, "since", "sample", {})
    former = restore(database_url, tmp_path / "file").former
    assert former is not None and former.startswith("llmser_before_2")
    with transaction(database_url) as connection:
        kept = connection.scalars(text(f"select run_id from {former}.runs order by 1")).all()
    assert kept == ["backed up", "since"]
    assert forget(database_url) == [former] and forget(database_url) == []
    assert runs.load(database_url, "backed up").dataset == "sample"


def test_an_older_backup_is_upgraded(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    scripts = tmp_path / "sql"
    shutil.copytree(SCRIPTS, scripts)
    for file in (scripts / "versions").glob("00*.py"):
        if file.name > "0005":
            file.unlink()
    migrate(empty_database_url, scripts)
    with transaction(empty_database_url) as connection:
        connection.execute(
            text("insert into runs (run_id, dataset, config, code_version) values ('old', 'sample', '{}', '0')")
        )
    backup(empty_database_url, tmp_path / "file")
    restore(database_url, tmp_path / "file")
    row = runs.load(database_url, "old")
    assert (row.dataset, row.failure) == ("sample", None)
    migrate(database_url)


def test_a_backup_of_a_newer_release_is_refused(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "newer", "sample", {})
    with transaction(database_url) as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    backup(database_url, tmp_path / "file")
    with pytest.raises(InputError, match=r"is of schema 9999, newer than this LLMSeR knows \(0\d\d\d\); nothing was"):
        restore(empty_database_url, tmp_path / "file")


def test_nobody_is_told_what_a_backup_had_not_told(database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "r", "sample", {})
    with transaction(database_url) as connection:
        notices.add(connection, Notice("r", "run failed", "1", "sample", "Long ago.", ""))
    backup(database_url, tmp_path / "file")
    restore(database_url, tmp_path / "file")
    told: list[str] = []

    def tell(receiver: str, _: Notice, __: bool) -> bool:
        told.append(receiver)
        return True

    notices.deliver(database_url, lambda: ["somebody"], tell)
    assert told == []


def test_while_a_run_is_at_work_nothing_is_restored(database_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "r", "sample", {})
    backup(database_url, tmp_path / "file")
    with living(database_url), pytest.raises(StorageError, match=r"A run is at work in .*; nothing was restored"):
        restore(database_url, tmp_path / "file")


KILLED = """
import os, signal, sys
from pathlib import Path
from llmser_tasks.warehouse import backup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, url, file = sys.argv[1:]
if moment == "loaded":
    backup._switch = die
else:
    switch = backup._switch
    backup._switch = lambda *given: die(switch(*given))
backup.restore(url, Path(file))
"""


@pytest.mark.parametrize("moment", ["loaded", "switched"])
def test_killed_on_the_way_it_leaves_what_there_was(database_url: str, tmp_path: Path, moment: str) -> None:
    runs.create(database_url, "backed up", "sample", {})
    backup(database_url, tmp_path / "file")
    runs.create(database_url, "since", "sample", {})
    command = [sys.executable, "-c", KILLED, moment, database_url, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert runs.load(database_url, "since").dataset == "sample"
    with transaction(database_url) as connection:
        listed = text("select nspname from pg_namespace where nspname like 'llmser%'")
        assert connection.scalars(listed).all() == ["llmser"]


# What is refused


@pytest.fixture
def foreign_url(postgres: embedded.Server, empty_database_url: str) -> Iterator[str]:
    """The same database for a superuser, who may do anything: what a hostile archive would want to be."""
    name = parsed(empty_database_url).database
    url = postgres.url_of(name or "", "postgres")
    yield url
    engine(url).dispose()


FOREIGN = {
    "table": "create table public.customers (name text)",
    "function": "create function public.f() returns int language sql as 'select 1'",
    "trigger": (
        "create function llmser.f() returns trigger language plpgsql as 'begin return new; end';"
        "create trigger t before insert on llmser.runs for each row execute function llmser.f()"
    ),
    "event trigger": (
        "create function llmser.g() returns event_trigger language plpgsql as 'begin end';"
        "create event trigger e on ddl_command_start execute function llmser.g()"
    ),
    "policy": "create policy p on llmser.runs using (true)",
    "rule": "create rule r as on insert to llmser.runs do instead nothing",
}


@pytest.mark.parametrize("kind", ["table", "function", "trigger", "event trigger", "policy", "rule"])
def test_an_archive_with_what_is_not_ours_is_refused(
    database_url: str, foreign_url: str, tmp_path: Path, kind: str
) -> None:
    runs.create(database_url, "kept", "sample", {})
    migrate(foreign_url)
    with transaction(foreign_url) as connection:
        connection.exec_driver_sql(FOREIGN[kind])
    dump(foreign_url, tmp_path / "file")
    with pytest.raises(InputError, match=r"is no backup of the warehouse: it holds “.*”, which LLMSeR does not have"):
        restore(database_url, tmp_path / "file")
    assert runs.load(database_url, "kept").dataset == "sample"


def test_another_database_is_refused(database_url: str, foreign_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "kept", "sample", {})
    with transaction(foreign_url) as connection:
        connection.execute(text("create schema llmser"))
        connection.execute(text("create table llmser.customers (name text)"))
    dump(foreign_url, tmp_path / "file")
    with pytest.raises(InputError, match="it does not say which release of LLMSeR wrote it"):
        restore(database_url, tmp_path / "file")
    assert runs.load(database_url, "kept").dataset == "sample"


def dump(url: str, file: Path) -> None:
    made = parsed(url)
    command = [packed_postgres() / "bin" / "pg_dump", "--format=custom", f"--file={file}", made.database or ""]
    login = {"PGHOST": made.host or "", "PGPORT": str(made.port), "PGUSER": made.username or ""}
    password = {"PGPASSWORD": str(made.password)}
    subprocess.run(command, check=True, env=os.environ | login | password)


def test_no_statement_of_an_archive_is_run(database_url: str, foreign_url: str, tmp_path: Path) -> None:
    """Definitions and the statements that fill tables are forged in an archive whose list looks like ours."""
    ran = tmp_path / "ran"
    tmp_path.chmod(0o777)
    runs.create(database_url, "forged", "sample", {})
    with transaction(database_url) as connection:  # long enough to be overwritten in place
        connection.execute(
            text(
                "create or replace function count_answers(run text) returns void language sql as"
                f" $$ select '{'x' * 300}' $$"
            )
        )
    file = tmp_path / "file"
    command = [packed_postgres() / "bin" / "pg_dump", "--format=custom", "--compress=0", "--schema=llmser",
               "--no-owner", f"--file={file}"]  # fmt: skip
    made = parsed(database_url)
    login = {"PGHOST": made.host or "", "PGPORT": str(made.port), "PGUSER": made.username or "",
             "PGPASSWORD": str(made.password), "PGDATABASE": made.database or ""}  # fmt: skip
    subprocess.run(command, check=True, env=os.environ | login)
    content = file.read_bytes()
    end = content.index(b"x" * 300)
    begin = content.rindex(b"CREATE FUNCTION", 0, end)
    evil = f"COPY (select 1) TO PROGRAM 'touch {ran}'; --".encode()
    file.write_bytes(content[:begin] + evil + content[begin + len(evil) :])
    restore(foreign_url, file)
    assert not ran.exists()
    assert runs.load(foreign_url, "forged").dataset == "sample"

    content = file.read_bytes()
    begin = content.index(b"COPY llmser.runs (")
    copy = content[begin : content.index(b"stdin;", begin)]
    evil = f"COPY llmser.runs FROM PROGRAM 'touch {ran}'; --".encode()
    file.write_bytes(content.replace(copy, evil.ljust(len(copy), b"-")))
    with pytest.raises(InputError, match="not all of its rows are there"):
        restore(foreign_url, file)
    assert not ran.exists()


def test_rows_that_do_not_fit_change_nothing(database_url: str, foreign_url: str, tmp_path: Path) -> None:
    runs.create(database_url, "kept", "sample", {})
    migrate(foreign_url)
    with transaction(foreign_url) as connection:
        connection.execute(text("alter table runs drop constraint runs_state_check"))
        connection.execute(
            text("insert into runs (run_id, dataset, config, code_version, state) values ('r', 'd', '{}', '0', 'odd')")
        )
    dump(foreign_url, tmp_path / "file")
    with pytest.raises(InputError, match=r"is damaged: rows of the table runs do not fit \(CheckViolation\)"):
        restore(database_url, tmp_path / "file")
    with transaction(foreign_url) as connection:
        connection.execute(text("delete from runs"))
        connection.execute(text("alter table runs add column more text"))
    dump(foreign_url, tmp_path / "file")
    with pytest.raises(InputError, match="has no table runs with these columns"):
        restore(database_url, tmp_path / "file")
    assert runs.load(database_url, "kept").dataset == "sample"
