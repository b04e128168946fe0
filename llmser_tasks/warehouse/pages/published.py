"""What readers of a dataset were given, version by version, and which runs were kept from them, and why."""

from __future__ import annotations

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.reading import Row, rows
from llmser_tasks.warehouse.rows import storable

AT_ONCE = 25

VERSIONS = """
    select p.version, p.version = max(p.version) over () as current, p.run_id, p.how, p.published_at, r.started_at,
           r.chosen as method, r.validation
    from publications p join runs r using (run_id) where p.dataset = :dataset order by p.version desc
"""
KEPT_BACK = """
    select run_id, started_at, chosen as method, validation, unpublished from runs
    where dataset = :dataset and unpublished is not null order by started_at desc
"""


def published(warehouse: Warehouse, dataset: str) -> dict[str, list[Row]]:
    """The newest AT_ONCE versions of a dataset, and the newest AT_ONCE runs that were kept back."""
    with transaction(warehouse) as connection:
        return {
            name: rows(connection, f"{statement} limit {AT_ONCE}", dataset=storable(dataset))
            for name, statement in (("versions", VERSIONS), ("kept_back", KEPT_BACK))
        }
