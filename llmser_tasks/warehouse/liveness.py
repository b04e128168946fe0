"""Whether the process that does something still lives: as long as its session holds an advisory lock.

The lock ends with the connection, so a killed process is known to be dead the moment Postgres notices, with no clock to
tune.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Raw

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import parsed, translated

LOCKS = 0x4C4C50  # class of our advisory locks; the function run_state knows it too
LOOK_EVERY_S = 2.0  # at our connection: after Postgres was away the lock is taken again


@contextmanager
def living(warehouse: Warehouse) -> Iterator[int]:
    """The number by which others see, for the length of the block, that this process lives.

    Raises:
        StorageError: Postgres is down at the start. Later it may go away and come back.
    """
    owner = secrets.randbits(31) or 1
    with translated(warehouse.url):
        connection = _open(warehouse, owner)
    over = threading.Event()

    def keep(held: Raw | None) -> None:
        while not over.wait(LOOK_EVERY_S):
            try:
                if held is None:
                    held = _open(warehouse, owner)
                with held.cursor() as cursor:
                    cursor.execute("select 1")
            except psycopg2.Error:
                _close(held)
                held = None
        _close(held)

    thread = threading.Thread(target=keep, args=(connection,), name="liveness", daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        over.set()
        thread.join()


def _open(warehouse: Warehouse, owner: int) -> Raw:
    connection: Raw = psycopg2.connect(
        parsed(warehouse.url).set(drivername="postgresql").render_as_string(hide_password=False),
        connect_timeout=10,
        application_name="llmser",
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s, %s)", [LOCKS, owner])
    return connection


def _close(connection: Raw | None) -> None:
    if connection is not None:
        with suppress(psycopg2.Error):
            connection.close()
