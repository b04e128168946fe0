"""What arrives for a dataset, and the settings of the run that takes it in. Imports nothing heavy: it is called each
minute.
"""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from llmser_tasks.core import environment
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.ingest.inbox import signature
from llmser_tasks.warehouse.tables import publications, refreshes, runs

log = logging.getLogger(__name__)


def values(warehouse: Warehouse, dataset: str) -> dict[str, Any]:
    """Settings of a dataset's next refresh: those of its published run, else of the dataset's file.

    Raises:
        InputError: nobody knows such a dataset.
    """
    if dataset not in known(warehouse):
        shown = "".join(c for c in dataset[:60] if c.isprintable())
        raise InputError(
            f"There is no dataset {shown!r} to refresh; there are: {', '.join(known(warehouse))}. "
            "A dataset is known by a run, or by a file NAME.json in datasets/."
        )
    now = publications.current(warehouse, dataset)
    before = runs.load(warehouse, now.run_id).settings if now else {"dataset": dataset}
    return {name: value for name, value in before.items() if value is not None} | {"incremental": True}


def known(warehouse: Warehouse) -> list[str]:
    """Datasets that have a file or a published run."""
    published = publications.datasets(warehouse)
    return sorted(published | {path.stem for folder in environment.dataset_folders() for path in folder.glob("*.json")})


def new_run_id(dataset: str) -> str:
    """Of a dataset's refresh that begins now; no two have the same, also within one second."""
    return f"refresh__{dataset}__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(2)}"


def due(warehouse: Warehouse, inbox: str, busy: refreshes.Busy) -> list[str]:
    """Datasets whose refresh can begin and has a reason to: what arrived, or who wants it."""
    found = []
    for name in known(warehouse):
        try:
            arrived = signature(inbox, name)
        except InputError as error:  # of one dataset; the others go on
            log.warning("%s", error)
            continue
        if refreshes.due(warehouse, name, arrived, busy):
            found.append(name)
    return found


def take(warehouse: Warehouse, inbox: str, dataset: str, run_id: str, busy: refreshes.Busy) -> dict[str, Any] | None:
    """Settings of the refresh that is to be started under this run id; None where it has to wait for another.

    Raises:
        InputError: nobody knows such a dataset.
    """
    found = values(warehouse, dataset)
    return found if refreshes.take(warehouse, dataset, run_id, signature(inbox, dataset), busy) else None
