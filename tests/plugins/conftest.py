from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from filled_warehouse import BROKEN, STUCK, fill
from served_page import Page, served

from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse.engine import engine
from llmser_tasks.warehouse.migrations import migrate


@pytest.fixture(scope="session")
def filled(postgres: embedded.Server) -> Iterator[str]:
    """URL of a warehouse with runs in it."""
    connection = psycopg2.connect(postgres.url_of("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create database page owner llmser")
    url = postgres.url_of("page", "llmser")
    migrate(url)
    fill(url)
    yield url
    engine(url).dispose()
    with connection.cursor() as cursor:
        cursor.execute("drop database page with (force)")
    connection.close()


@pytest.fixture(scope="session")
def page(open_folder: Path, postgres: embedded.Server, filled: str) -> Iterator[Page]:
    with served(open_folder / "page", filled, postgres.airflow_url, BROKEN, STUCK) as here:
        yield here
