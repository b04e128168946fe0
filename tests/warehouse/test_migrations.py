from __future__ import annotations

from sqlalchemy import text

from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import migrate


def test_a_migrated_database_has_the_tables_in_its_schema(database_url: str) -> None:
    migrate(database_url)
    with transaction(database_url) as connection:
        assert connection.scalar(text("select count(*) from llmser.runs")) == 0
        assert connection.scalar(text("select version_num from llmser.alembic_version")) == "0001"
