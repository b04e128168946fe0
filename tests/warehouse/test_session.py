"""A connection of its own for an event loop."""

from __future__ import annotations

import asyncio

from patience import until
from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.session import Session

_LOCKS = text("select count(*) from pg_locks where locktype = 'advisory'")


def test_a_sessions_lock_ends_with_it(warehouse: Warehouse) -> None:
    def lock(connection: Connection) -> None:
        connection.execute(text("select pg_advisory_lock(1, 2)"))

    async def hold() -> int:
        session = Session(warehouse, "test", lock)
        held: int = await session.run(lambda connection: connection.scalar(_LOCKS))
        await session.close()
        return held

    def held() -> int:
        with transaction(warehouse) as connection:
            return int(connection.scalar(_LOCKS))

    assert asyncio.run(hold()) == 1
    until(lambda: held() == 0)  # Postgres ends the session of a closed connection in its own time
