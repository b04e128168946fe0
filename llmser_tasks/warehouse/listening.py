"""Notifications of other processes (Postgres' LISTEN and NOTIFY), received within milliseconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.extensions import connection as Raw

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import parsed

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # between attempts to reach a Postgres that went away


async def listen(warehouse: Warehouse, channel: str, heard: Callable[[str], None]) -> None:
    """Call `heard` with the payload of everything that is notified on the channel, until cancelled.

    It goes on when Postgres has been away, but what was notified meanwhile is lost: it is no way to be told what must
    not be missed.

    Args:
        channel: a name of ours, never one from outside: Postgres takes no parameter here.
    """
    while True:
        try:
            connection = await asyncio.to_thread(_open, warehouse, channel)
            await _hear(connection, heard)
        except psycopg2.Error as error:
            log.debug("Nothing is heard from other workers for a moment: %s", type(error).__name__)
        await asyncio.sleep(AGAIN_S)


def _open(warehouse: Warehouse, channel: str) -> Raw:
    connection: Raw = psycopg2.connect(
        parsed(warehouse.url).set(drivername="postgresql").render_as_string(hide_password=False),
        connect_timeout=10,
        application_name="llmser",
    )
    connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with connection.cursor() as cursor:
        cursor.execute(f"listen {channel}")
    return connection


async def _hear(connection: Raw, heard: Callable[[str], None]) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    socket = connection.fileno()
    loop.add_reader(socket, readable.set)
    try:
        while True:
            connection.poll()
            while connection.notifies:
                heard(connection.notifies.pop(0).payload)
            await readable.wait()
            readable.clear()
    finally:
        loop.remove_reader(socket)
        connection.close()
