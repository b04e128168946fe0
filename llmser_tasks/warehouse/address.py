"""Where the warehouse is: the server that LLMSER_DATABASE_URL names, or the embedded one below the home."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from llmser_tasks.core.environment import home
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Workspace

log = logging.getLogger(__name__)


def warehouse() -> Warehouse:
    """The one that LLMSER_DATABASE_URL names, or that on the embedded server if it runs.

    Raises:
        StorageError: there is neither.
    """
    if url := os.environ.get("LLMSER_DATABASE_URL"):
        return Warehouse(url)
    from llmser_tasks.postgres import embedded  # late: the DAG processor asks, too, and has no time

    server = embedded.running(home())
    if server is None:
        raise StorageError(f"No Postgres runs below {home()}; start it with `llmser up`, or set LLMSER_DATABASE_URL.")
    return Warehouse(server.url)


@contextmanager
def database() -> Iterator[Warehouse]:
    """The warehouse, migrated; the embedded server is started for the length of the block if need be."""
    from llmser_tasks.postgres import embedded
    from llmser_tasks.warehouse.migrations import migrate

    if url := os.environ.get("LLMSER_DATABASE_URL"):
        found = Warehouse(url)
        migrate(found)
        yield found
        return
    with embedded.on_demand(home()) as server:
        found = Warehouse(server.url)
        migrate(found)
        yield found


@contextmanager
def kept_database() -> Iterator[Warehouse]:
    """The same, for what only looks at or changes what is there: none is made.

    Raises:
        InputError: nothing has ever run here.
    """
    from llmser_tasks.postgres import embedded

    if not os.environ.get("LLMSER_DATABASE_URL") and not embedded.exists(home()):
        raise InputError(
            f"There is no warehouse below {home()}: nothing has run here. Go to the folder in which you work, or set "
            "LLMSER_HOME or LLMSER_DATABASE_URL."
        )
    with database() as found:
        yield found


def claimed(store: Workspace) -> Workspace:
    """The store, with claims on who makes what kept in the warehouse, if one is running already.

    Nothing gets mixed up without one, either: two machines that make the same artefact then each make their own.
    """
    from llmser_tasks.warehouse.migrations import migrate
    from llmser_tasks.warehouse.tables.artefact_claims import Claims

    try:
        found = warehouse()
        migrate(found)
    except StorageError as error:
        log.debug("Nothing is claimed: %s", error)
        return store
    return replace(store, claims=Claims(found))
