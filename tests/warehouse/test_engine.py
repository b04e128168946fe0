"""Connections: what people read when there is none, and what they never read."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from psycopg2.errors import DiskFull
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from llmser_tasks.core.config import from_flat
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.home import ADMIN
from llmser_tasks.postgres.launching import free_port
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import engine, transaction, translated, where
from llmser_tasks.warehouse.tables import runs

SECRET = "planted-password-41"


def test_postgres_down_is_one_sentence_without_the_password() -> None:
    port = free_port()
    with (
        pytest.raises(StorageError) as caught,
        transaction(Warehouse(f"postgresql://me:{SECRET}@127.0.0.1:{port}/llmser")),
    ):
        pass
    assert f"Postgres at 127.0.0.1:{port}/llmser cannot be used: " in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_wrong_password_is_told_without_it(postgres: embedded.Server) -> None:
    warehouse = Warehouse(f"postgresql://llmser:{SECRET}@127.0.0.1:{postgres.port}/llmser")
    with pytest.raises(StorageError, match='password authentication failed for user "llmser"') as caught:
        transaction(warehouse).__enter__()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(engine(warehouse))


@pytest.mark.parametrize(
    "url", [f"me:{SECRET}@host", f"mysql://me:{SECRET}@host/db", "", f"postgresql://me:{SECRET}@h:x/d"]
)
def test_what_is_no_url_of_postgres_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StorageError, match="must look like postgresql://") as caught:
        engine(Warehouse(url))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_run_that_is_printed_keeps_its_warehouses_password(tmp_path: Path) -> None:
    run = Run(
        "r", from_flat({"dataset": "beauty"}), Workspace(tmp_path), Warehouse(f"postgresql://me:{SECRET}@host/db")
    )
    assert SECRET not in repr(run) + str(run)


def test_where_names_the_server_alone() -> None:
    assert where(f"postgresql://me:{SECRET}@db.example:6000/warehouse") == "db.example:6000/warehouse"
    assert where("postgres://db.example/warehouse") == "db.example:5432/warehouse"


def test_errors_in_sql_are_no_matter_of_storage(warehouse: Warehouse) -> None:
    with pytest.raises(ProgrammingError), transaction(warehouse) as connection:
        connection.execute(text("select * from nowhere"))


def test_a_connection_that_died_in_the_pool_is_replaced(warehouse: Warehouse, postgres: embedded.Server) -> None:
    with transaction(warehouse) as connection:
        pid = connection.scalar(text("select pg_backend_pid()"))
    with transaction(Warehouse(postgres.url_of("llmser", ADMIN))) as admin:
        admin.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select 1")) == 1


def test_a_server_that_goes_away_within_a_transaction_is_told(warehouse: Warehouse, postgres: embedded.Server) -> None:
    with pytest.raises(StorageError, match="cannot be used"), transaction(warehouse) as connection:
        pid = connection.scalar(text("select pg_backend_pid()"))
        with transaction(Warehouse(postgres.url_of("llmser", ADMIN))) as admin:
            admin.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
        connection.execute(text("select 1"))


def test_a_forked_worker_does_not_share_connections(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        mine = connection.scalar(text("select pg_backend_pid()"))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with transaction(warehouse) as connection:
            os.write(writer, str(connection.scalar(text("select pg_backend_pid()"))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select pg_backend_pid()")) == mine != theirs


@pytest.mark.parametrize("wrapped", [True, False])  # by SQLAlchemy, or raised by COPY on the driver's cursor
def test_a_full_disk_is_one_sentence(wrapped: bool) -> None:
    cause = DiskFull("could not extend file: No space left on device\nHINT: Check free disk space.")
    error = OperationalError("copy answers", {}, cause) if wrapped else cause
    with (
        pytest.raises(StorageError, match=r"at h:5432/d cannot be used: .*No space left on device; check that it runs"),
        translated("postgresql://me@h/d"),
    ):
        raise error


def test_what_postgres_cannot_take_is_no_failure(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        said = connection.execute(
            text("select cast(:one as text), cast(:many as text[])"), {"one": "a\0b", "many": ["\udcff", "c"]}
        ).one()
    assert tuple(said) == ("a�b", ["�", "c"])
    with pytest.raises(InputError, match="There is no run"):
        runs.load(warehouse, "a\0")
    with pytest.raises(InputError, match="Run � has no report"):
        queries.report(warehouse, "\udcff")
