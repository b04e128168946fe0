"""Migrations: repeatable, one at a time, upgrades keep data."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.home import ADMIN
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import SCRIPTS, migrate
from llmser_tasks.warehouse.tables import runs

LATEST = max(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*_*.py"))
LATER, AFTER = (f"{int(LATEST) + further:04}" for further in (1, 2))


def test_everything_lies_in_one_schema(database_url: str) -> None:
    with transaction(database_url) as connection:
        schemas = connection.execute(
            text("select table_schema, count(*) from information_schema.tables"
                 " where table_schema not in ('pg_catalog', 'information_schema') group by 1")
        ).all()  # fmt: skip
        assert [schema for schema, _ in schemas] == ["llmser"]
        for view in ("table1", "tail_report", "run_costs", "recommended_items"):
            connection.execute(text(f"select * from llmser.{view}"))


def test_again_changes_nothing(database_url: str) -> None:
    runs.create(database_url, "r", "sample", {"a": 1})
    migrate(database_url)
    assert runs.load(database_url, "r").config == {"a": 1}


def test_concurrent_callers_do_not_collide(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_database_url] * 4))
    assert version(empty_database_url) == LATEST


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations of a later release."""
    scripts = tmp_path / "sql 100%"
    shutil.copytree(SCRIPTS, scripts)
    (scripts / "versions" / f"{LATER}_later.py").write_text(
        f"from alembic import op\nrevision, down_revision = '{LATER}', '{LATEST}'\n"
        "def upgrade():\n    op.execute(\"alter table runs add column colour text not null default 'blue'\")\n"
    )
    return scripts


def test_an_upgrade_keeps_data(database_url: str, newer: Path) -> None:
    runs.create(database_url, "r", "sample", {"a": 1})
    migrate(database_url, newer)
    assert version(database_url) == LATER
    with transaction(database_url) as connection:
        assert connection.execute(text("select run_id, colour from runs")).one() == ("r", "blue")


def test_a_failing_upgrade_leaves_the_old_schema(database_url: str, newer: Path) -> None:
    (newer / "versions" / f"{AFTER}_broken.py").write_text(
        f"from alembic import op\nrevision, down_revision = '{AFTER}', '{LATER}'\n"
        "def upgrade():\n    op.execute('select 1 / 0')\n"
    )
    with pytest.raises(Exception, match="division by zero"):
        migrate(database_url, newer)
    assert version(database_url) == LATEST


def test_a_newer_schema_is_refused(database_url: str, newer: Path) -> None:
    migrate(database_url, newer)
    sentence = rf"has schema {LATER}, newer than this LLMSeR knows \({LATEST}\); upgrade LLMSeR"
    with pytest.raises(StorageError, match=sentence):
        migrate(database_url)
    assert version(database_url) == LATER


def test_a_role_without_rights_is_told_so(empty_database_url: str, postgres: embedded.Server) -> None:
    name = empty_database_url.rsplit("/", 1)[1]
    url = postgres.url_of(name, "airflow")
    admin = create_engine(postgres.url_of(name, ADMIN))
    with admin.begin() as connection:
        connection.execute(text(f"grant connect on database {name} to airflow"))
    admin.dispose()
    with pytest.raises(StorageError, match="permission denied for database") as caught:
        migrate(url)
    assert postgres.passwords["airflow"] not in str(caught.value)


def version(url: str) -> object:
    with transaction(url) as connection:
        return connection.scalar(text("select version_num from llmser.alembic_version"))
