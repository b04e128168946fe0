"""Workers that share what there is to do, and what has to happen beside them from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

Work = Coroutine[object, object, None]


async def work_through(workers: Iterable[Work], beside: Iterable[Work]) -> None:
    """Until all workers have ended, or one of them raises; nothing of either outlives this."""
    clocks = [asyncio.create_task(one) for one in beside]
    tasks = [asyncio.create_task(one) for one in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in (*clocks, *tasks):
            task.cancel()
        await asyncio.gather(*clocks, *tasks, return_exceptions=True)
