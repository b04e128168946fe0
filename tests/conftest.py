"""What many tests need: a workspace, an own Postgres server, a fresh database on it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from hypothesis import HealthCheck, settings
from psycopg2 import sql

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse.engine import engine
from llmser_tasks.warehouse.migrations import migrate

settings.register_profile("llmser", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # neither is a fault
settings.load_profile("llmser")
TEMPLATE = "llmser_template"
_numbers = itertools.count()


def pytest_configure() -> None:
    """SIGTERM ends a run as Ctrl-C does, with everything that it has started."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # in a background job SIGINT's own is to ignore it


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "artefacts")


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter: as root, Postgres runs as one of them.

    Nothing in it outlives the tests, even if they are killed.
    """
    in_memory = Path("/dev/shm")
    roomy = in_memory.is_dir() and shutil.disk_usage(in_memory).free > 2 << 30
    folder = Path(tempfile.mkdtemp(prefix="llmser-tests-", dir=in_memory if roomy else None))
    folder.chmod(0o711)
    program = [sys.executable, str(Path(__file__).with_name("after_death.py")), str(folder)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(open_folder: Path) -> Iterator[embedded.Server]:
    """One embedded server for all tests, with a migrated template database."""
    with embedded.on_demand(open_folder) as server:
        _administer(server, f"create database {TEMPLATE} owner llmser")
        template = Warehouse(server.url_of(TEMPLATE, "llmser"))
        migrate(template)
        engine(template).dispose()
        yield server


@pytest.fixture
def database_url(postgres: embedded.Server) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administer(postgres, f"create database {name} template {TEMPLATE} owner llmser")
    url = postgres.url_of(name, "llmser")
    yield url
    engine(Warehouse(url)).dispose()
    _administer(postgres, f"drop database {name} with (force)")


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    """The warehouse in `database_url`, which is for environments and other processes."""
    return Warehouse(database_url)


@pytest.fixture
def empty_database_url(postgres: embedded.Server) -> Iterator[str]:
    """URL of a database without any schema."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    _administer(postgres, f"create database {name} owner llmser")
    url = postgres.url_of(name, "llmser")
    yield url
    engine(Warehouse(url)).dispose()
    _administer(postgres, f"drop database {name} with (force)")


@pytest.fixture
def empty_warehouse(empty_database_url: str) -> Warehouse:
    """The warehouse to be in `empty_database_url`."""
    return Warehouse(empty_database_url)


def _administer(server: embedded.Server, statement: str) -> None:
    connection = psycopg2.connect(server.url_of("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement))
    connection.close()
