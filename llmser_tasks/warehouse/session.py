"""One connection to Postgres for an event loop: statements one after the other, on a thread of their own.

It is no connection of the pool: what it holds on the server, an advisory lock above all, ends when the session does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import engine, translated

Result = TypeVar("Result")


class Session:
    """Opens its connection at the first use, and again after Postgres went away. Each statement commits at once."""

    def __init__(self, warehouse: Warehouse, name: str, opened: Callable[[Connection], object] | None = None) -> None:
        """
        Args:
            name: of the thread.
            opened: called with each new connection.
        """
        self._warehouse = warehouse
        self._opened = opened
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """
        Raises:
            StorageError: Postgres is down.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        with translated(self._warehouse.url):
            connection = self._connection or self._open()
            try:
                return work(connection)
            finally:
                if connection.invalidated:
                    self._close()

    def _open(self) -> Connection:
        connection = engine(self._warehouse).connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        if self._opened is not None:
            self._opened(connection)
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
