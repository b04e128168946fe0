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
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.packed import packed_postgres
from llmser_tasks.warehouse import archive
from llmser_tasks.warehouse.backup import backup, forget, restore
from llmser_tasks.warehouse.engine import engine, parsed, transaction
from llmser_tasks.warehouse.liveness import living
from llmser_tasks.warehouse.migrations import SCRIPTS, migrate
from llmser_tasks.warehouse.tables import notices, runs
from llmser_tasks.warehouse.tables.notices import Notice


def test_a_backup_brings_back_what_there_was(warehouse: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.backup"
    runs.create(warehouse, "kept", "sample", {"title": "O'Neil \\ \n☃"})
    backup(warehouse, file)
    runs.create(warehouse, "later", "sample", {})
    with transaction(warehouse) as connection:  # of a later release
        connection.execute(text("create table newer as select run_id from runs"))
    restore(warehouse, file)
    with transaction(warehouse) as connection:
        assert list(connection.scalars(text("select run_id from runs"))) == ["kept"]
        assert connection.scalar(text("select to_regclass('llmser.newer')")) is None
    assert runs.load(warehouse, "kept").config == {"title": "O'Neil \\ \n☃"}
    migrate(warehouse)
    assert file.stat().st_mode & 0o077 == 0


def test_an_empty_place_takes_a_backup(warehouse: Warehouse, empty_warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "kept", "sample", {})
    backup(warehouse, tmp_path / "file")
    restore(empty_warehouse, tmp_path / "file")
    assert runs.load(empty_warehouse, "kept").dataset == "sample"


def test_what_is_no_backup_changes_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "kept", "sample", {})
    (tmp_path / "file").write_text("drop schema llmser cascade")
    with pytest.raises(InputError, match="is no backup of the warehouse"):
        restore(warehouse, tmp_path / "file")
    backup(warehouse, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((InputError, StorageError)):
        restore(warehouse, tmp_path / "half")
    assert runs.load(warehouse, "kept").dataset == "sample"


def test_a_failed_backup_leaves_the_former_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("former")
    with pytest.raises(StorageError, match=r"Postgres at 127.0.0.1:1/x cannot be used") as failure:
        backup(Warehouse("postgresql://u:secret@127.0.0.1:1/x"), tmp_path / "file", force=True)
    assert "secret" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "former"


# What a backup is


def test_a_file_that_is_there_is_replaced_only_when_asked(warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "r", "sample", {})
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"file is there already; name another file, or .* --force"):
        backup(warehouse, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    backup(warehouse, tmp_path / "file", force=True)
    assert "runs" in archive.contents(tmp_path / "file").tables
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_an_empty_warehouse_is_not_backed_up(warehouse: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"is empty: no run, no answer\. Nothing was written"):
        backup(warehouse, tmp_path / "file", force=True)
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_written_is_read_again_and_a_damaged_one_is_no_backup(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmser_tasks.warehouse import backup as module

    fill(warehouse)
    written = module._run

    def cut_off(warehouse: Warehouse, program: str, *arguments: str) -> None:
        written(warehouse, program, *arguments)
        (part,) = tmp_path.glob(".file.*.part")
        os.truncate(part, part.stat().st_size // 2)

    monkeypatch.setattr(module, "_run", cut_off)
    with pytest.raises(StorageError, match="cannot be read again; check the disk"):
        backup(warehouse, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_everything_comes_back_row_for_row(warehouse: Warehouse, empty_warehouse: Warehouse, tmp_path: Path) -> None:
    fill(warehouse)
    rows = backup(warehouse, tmp_path / "file")
    restored = restore(empty_warehouse, tmp_path / "file")
    assert restored.rows == rows and restored.former is None
    assert everything(empty_warehouse) == everything(warehouse)
    assert constraints(empty_warehouse) == constraints(warehouse)
    assert runs.load(empty_warehouse, FINISHED).state == "succeeded"


def everything(warehouse: Warehouse) -> dict[str, list[str]]:
    listed = "select tablename from pg_tables where schemaname = 'llmser' order by 1"
    with transaction(warehouse) as connection:
        return {
            table: sorted(connection.scalars(text(f"select t::text from llmser.{table} t")))
            for table in connection.scalars(text(listed)).all()
        }


def constraints(warehouse: Warehouse) -> list[str]:
    query = """
        select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
        where connamespace = cast('llmser' as regnamespace) union all select indexdef from pg_indexes
        where schemaname = 'llmser' order by 1
    """
    with transaction(warehouse) as connection:
        return list(connection.scalars(text(query)))


# What is kept


def test_the_warehouse_before_is_kept_until_somebody_drops_it(warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "backed up", "sample", {})
    backup(warehouse, tmp_path / "file")
    runs.create(warehouse, "since", "sample", {})
    former = restore(warehouse, tmp_path / "file").former
    assert former is not None and former.startswith("llmser_before_2")
    with transaction(warehouse) as connection:
        kept = connection.scalars(text(f"select run_id from {former}.runs order by 1")).all()
    assert kept == ["backed up", "since"]
    assert forget(warehouse) == [former] and forget(warehouse) == []
    assert runs.load(warehouse, "backed up").dataset == "sample"


def test_an_older_backup_is_upgraded(warehouse: Warehouse, empty_warehouse: Warehouse, tmp_path: Path) -> None:
    scripts = tmp_path / "sql"
    shutil.copytree(SCRIPTS, scripts)
    for file in (scripts / "versions").glob("00*.py"):
        if file.name > "0005":
            file.unlink()
    migrate(empty_warehouse, scripts)
    with transaction(empty_warehouse) as connection:
        connection.execute(
            text("insert into runs (run_id, dataset, config, code_version) values ('old', 'sample', '{}', '0')")
        )
    backup(empty_warehouse, tmp_path / "file")
    restore(warehouse, tmp_path / "file")
    row = runs.load(warehouse, "old")
    assert (row.dataset, row.failure) == ("sample", None)
    migrate(warehouse)


def test_a_backup_of_a_newer_release_is_refused(
    warehouse: Warehouse, empty_warehouse: Warehouse, tmp_path: Path
) -> None:
    runs.create(warehouse, "newer", "sample", {})
    with transaction(warehouse) as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    backup(warehouse, tmp_path / "file")
    with pytest.raises(InputError, match=r"is of schema 9999, newer than this LLMSeR knows \(0\d\d\d\); nothing was"):
        restore(empty_warehouse, tmp_path / "file")


def test_nobody_is_told_what_a_backup_had_not_told(warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "r", "sample", {})
    with transaction(warehouse) as connection:
        notices.add(connection, Notice("r", "run failed", "1", "sample", "Long ago.", ""))
    backup(warehouse, tmp_path / "file")
    restore(warehouse, tmp_path / "file")
    told: list[str] = []

    def tell(receiver: str, _: Notice, __: bool) -> bool:
        told.append(receiver)
        return True

    notices.deliver(warehouse, lambda: ["somebody"], tell)
    assert told == []


def test_while_a_run_is_at_work_nothing_is_restored(warehouse: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "r", "sample", {})
    backup(warehouse, tmp_path / "file")
    with living(warehouse), pytest.raises(StorageError, match=r"A run is at work in .*; nothing was restored"):
        restore(warehouse, tmp_path / "file")


KILLED = """
import os, signal, sys
from pathlib import Path
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse import backup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, url, file = sys.argv[1:]
if moment == "loaded":
    backup._switch = die
else:
    switch = backup._switch
    backup._switch = lambda *given: die(switch(*given))
backup.restore(Warehouse(url), Path(file))
"""


@pytest.mark.parametrize("moment", ["loaded", "switched"])
def test_killed_on_the_way_it_leaves_what_there_was(warehouse: Warehouse, tmp_path: Path, moment: str) -> None:
    runs.create(warehouse, "backed up", "sample", {})
    backup(warehouse, tmp_path / "file")
    runs.create(warehouse, "since", "sample", {})
    command = [sys.executable, "-c", KILLED, moment, warehouse.url, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert runs.load(warehouse, "since").dataset == "sample"
    with transaction(warehouse) as connection:
        listed = text("select nspname from pg_namespace where nspname like 'llmser%'")
        assert connection.scalars(listed).all() == ["llmser"]


# What is refused


@pytest.fixture
def foreign(postgres: embedded.Server, empty_database_url: str) -> Iterator[Warehouse]:
    """The same database for a superuser, who may do anything: what a hostile archive would want to be."""
    name = parsed(empty_database_url).database
    made = Warehouse(postgres.url_of(name or "", "postgres"))
    yield made
    engine(made).dispose()


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
    warehouse: Warehouse, foreign: Warehouse, tmp_path: Path, kind: str
) -> None:
    runs.create(warehouse, "kept", "sample", {})
    migrate(foreign)
    with transaction(foreign) as connection:
        connection.exec_driver_sql(FOREIGN[kind])
    dump(foreign, tmp_path / "file")
    with pytest.raises(InputError, match=r"is no backup of the warehouse: it holds “.*”, which LLMSeR does not have"):
        restore(warehouse, tmp_path / "file")
    assert runs.load(warehouse, "kept").dataset == "sample"


def test_another_database_is_refused(warehouse: Warehouse, foreign: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "kept", "sample", {})
    with transaction(foreign) as connection:
        connection.execute(text("create schema llmser"))
        connection.execute(text("create table llmser.customers (name text)"))
    dump(foreign, tmp_path / "file")
    with pytest.raises(InputError, match="it does not say which release of LLMSeR wrote it"):
        restore(warehouse, tmp_path / "file")
    assert runs.load(warehouse, "kept").dataset == "sample"


def dump(warehouse: Warehouse, file: Path) -> None:
    made = parsed(warehouse.url)
    command = [packed_postgres() / "bin" / "pg_dump", "--format=custom", f"--file={file}", made.database or ""]
    login = {"PGHOST": made.host or "", "PGPORT": str(made.port), "PGUSER": made.username or ""}
    password = {"PGPASSWORD": str(made.password)}
    subprocess.run(command, check=True, env=os.environ | login | password)


def test_no_statement_of_an_archive_is_run(warehouse: Warehouse, foreign: Warehouse, tmp_path: Path) -> None:
    """Definitions and the statements that fill tables are forged in an archive whose list looks like ours."""
    ran = tmp_path / "ran"
    tmp_path.chmod(0o777)
    runs.create(warehouse, "forged", "sample", {})
    with transaction(warehouse) as connection:  # long enough to be overwritten in place
        connection.execute(
            text(
                "create or replace function count_answers(run text) returns void language sql as"
                f" $$ select '{'x' * 300}' $$"
            )
        )
    file = tmp_path / "file"
    command = [packed_postgres() / "bin" / "pg_dump", "--format=custom", "--compress=0", "--schema=llmser",
               "--no-owner", f"--file={file}"]  # fmt: skip
    made = parsed(warehouse.url)
    login = {"PGHOST": made.host or "", "PGPORT": str(made.port), "PGUSER": made.username or "",
             "PGPASSWORD": str(made.password), "PGDATABASE": made.database or ""}  # fmt: skip
    subprocess.run(command, check=True, env=os.environ | login)
    content = file.read_bytes()
    end = content.index(b"x" * 300)
    begin = content.rindex(b"CREATE FUNCTION", 0, end)
    evil = f"COPY (select 1) TO PROGRAM 'touch {ran}'; --".encode()
    file.write_bytes(content[:begin] + evil + content[begin + len(evil) :])
    restore(foreign, file)
    assert not ran.exists()
    assert runs.load(foreign, "forged").dataset == "sample"

    content = file.read_bytes()
    begin = content.index(b"COPY llmser.runs (")
    copy = content[begin : content.index(b"stdin;", begin)]
    evil = f"COPY llmser.runs FROM PROGRAM 'touch {ran}'; --".encode()
    file.write_bytes(content.replace(copy, evil.ljust(len(copy), b"-")))
    with pytest.raises(InputError, match="not all of its rows are there"):
        restore(foreign, file)
    assert not ran.exists()


def test_rows_that_do_not_fit_change_nothing(warehouse: Warehouse, foreign: Warehouse, tmp_path: Path) -> None:
    runs.create(warehouse, "kept", "sample", {})
    migrate(foreign)
    with transaction(foreign) as connection:
        connection.execute(text("alter table runs drop constraint runs_state_check"))
        connection.execute(
            text("insert into runs (run_id, dataset, config, code_version, state) values ('r', 'd', '{}', '0', 'odd')")
        )
    dump(foreign, tmp_path / "file")
    with pytest.raises(InputError, match=r"is damaged: rows of the table runs do not fit \(CheckViolation\)"):
        restore(warehouse, tmp_path / "file")
    with transaction(foreign) as connection:
        connection.execute(text("delete from runs"))
        connection.execute(text("alter table runs add column more text"))
    dump(foreign, tmp_path / "file")
    with pytest.raises(InputError, match="has no table runs with these columns"):
        restore(warehouse, tmp_path / "file")
    assert runs.load(warehouse, "kept").dataset == "sample"
