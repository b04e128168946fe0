from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from filled_warehouse import BROKEN, STUCK, fill
from served_page import Page, served

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse.engine import engine
from llmser_tasks.warehouse.migrations import migrate


@pytest.fixture(scope="session")
def filled(postgres: embedded.Server) -> Iterator[Warehouse]:
    """A warehouse with runs in it."""
    connection = psycopg2.connect(postgres.url_of("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create database page owner llmser")
    made = Warehouse(postgres.url_of("page", "llmser"))
    migrate(made)
    fill(made)
    yield made
    engine(made).dispose()
    with connection.cursor() as cursor:
        cursor.execute("drop database page with (force)")
    connection.close()


@pytest.fixture(scope="session")
def page(open_folder: Path, postgres: embedded.Server, filled: Warehouse) -> Iterator[Page]:
    with served(open_folder / "page", filled.url, postgres.airflow_url, BROKEN, STUCK) as here:
        yield here
