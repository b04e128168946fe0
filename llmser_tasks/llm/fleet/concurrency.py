"""How many requests may be in flight: the endpoint's limit, shared by all processes that ask it, and less while it
complains.

Once a second each process leases a share. Shares are equal, but none is larger than its process can use. A process that
only waits for answers that others are getting has none: those others might be waiting for its share. A killed process'
share is free as soon as its advisory lock is gone (see `claims`). Within its share a process behaves like TCP: a 429
cuts what it has in flight by a third, and every answer adds a little.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.breaker import Breaker, happens
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import endpoint_workers
from llmser_tasks.warehouse.tables.endpoint_workers import Lease

log = logging.getLogger(__name__)

LEASE_S = 1.0
CUT = 2 / 3  # of what is in flight stays after a complaint


class Gate:
    """Lets a request pass while this process has fewer in flight than it may."""

    def __init__(
        self, endpoint: Endpoint, warehouse: Warehouse, owner: int, breaker: Breaker, open_questions: Callable[[], int]
    ) -> None:
        """
        Args:
            owner: number of the advisory lock that lives as long as this batch.
            open_questions: how many requests could be in flight if nothing stood in the way.
        """
        self._most = endpoint.max_concurrency
        self._owner = owner
        self._endpoint = endpoint.url
        self._warehouse = warehouse
        self._breaker = breaker
        self._open_questions = open_questions
        self._granted = 0
        self._window = float(self._most)
        self._cut_at = 0.0
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._left = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._granted = await asyncio.to_thread(self._lease)
        self._leasing = asyncio.create_task(self._keep_leasing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._leasing is not None:  # to its end: a thread is not cancelled, and would write the row again
            await asyncio.gather(self._leasing, return_exceptions=True)
        try:
            await asyncio.to_thread(self._leave)
        except StorageError as error_:
            log.debug("The share was not given back, but ends with the connection: %s", error_)

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """In flight for the length of the block.

        Raises:
            Stopped: the batch is over.
        """
        while self._in_flight >= self._limit and self._breaker.cause is None:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._in_flight += 1
        try:
            self._breaker.check()
            yield
        finally:
            self._in_flight -= 1
            self._admit()

    def complained(self, sent_at: float) -> None:
        """A request sent at this time (monotonic clock) was refused as one too many. One sent before the last cut tells
        us nothing new."""
        if sent_at > self._cut_at:
            self._window = max(1.0, min(self._limit, self._window) * CUT)
            self._cut_at = time.monotonic()

    def answered(self) -> None:
        """Allow one more in flight for each round of answers."""
        self._window = min(self._most, self._window + 1 / self._window)

    @property
    def _limit(self) -> int:
        return min(self._granted, math.floor(self._window))

    def _admit(self) -> None:
        """Wake as many as may pass; all, where the batch is over."""
        free = len(self._waiting) if self._breaker.cause is not None else self._limit - self._in_flight
        for _ in range(min(free, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _keep_leasing(self) -> None:
        while not await happens(self._left, LEASE_S):
            try:
                self._granted = await asyncio.to_thread(self._lease)
            except StorageError as error:
                log.warning("The share of the endpoint's concurrency stays as it was: %s", error)
            self._admit()

    def _lease(self) -> int:
        wanted = min(self._most, max(0, self._open_questions()), math.ceil(self._window) + 1)
        with transaction(self._warehouse) as connection:
            others = endpoint_workers.others(connection, self._endpoint, self._owner)
            share = fair_share(self._most, {o.owner: o.wanted for o in others} | {self._owner: wanted})
            free = self._most - sum(other.granted for other in others)
            may = max(0, min(share[self._owner], free))
            lease = Lease(self._owner, wanted, granted=max(may, self._in_flight))
            endpoint_workers.lease(connection, self._endpoint, lease)
        return may

    def _leave(self) -> None:
        with transaction(self._warehouse) as connection:
            endpoint_workers.leave(connection, self._endpoint, self._owner)


def fair_share(most: int, wanted: Mapping[int, int]) -> dict[int, int]:
    """Max-min fairness: nobody gets more than wanted, and what is left over goes to those who want more."""
    shares: dict[int, int] = {}
    left = most
    for place, owner in enumerate(sorted(wanted, key=lambda one: (wanted[one], one))):
        shares[owner] = min(wanted[owner], left // (len(wanted) - place))
        left -= shares[owner]
    return shares
