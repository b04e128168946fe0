"""Requests and tokens per minute, and pauses, shared by every process that asks one endpoint.

One row per endpoint holds when its next free slots are (generic cell rate algorithm, by Postgres' clock). One
`UPDATE … RETURNING` takes slots for all questions that wait in this process; each then sleeps until its own. The row
also says until when the endpoint wants to be left alone, so that one worker's Retry-After pauses them all; they are
told at once. An endpoint without limits costs nothing per question: its row is only looked at now and then for such a
pause.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.listening import listen
from llmser_tasks.warehouse.session import Session
from llmser_tasks.warehouse.tables import endpoint_limits
from llmser_tasks.warehouse.tables.endpoint_limits import PAUSES, Order, Slots

log = logging.getLogger(__name__)

AHEAD_S = 0.25  # one statement takes slots for so long ahead; a killed worker wastes no more than that
POLL_S = 1.0  # how often a process without limits looks for a pause, in case it missed the notification
PATIENCE_S = 120.0  # an endpoint that asks for a longer pause ends the batch: a worker should not sleep in its slot
WINDOW_S = 60.0  # limits are per minute
BYTES_PER_TOKEN = 4.0  # first guess, corrected by the usage that responses report
SPREAD_S = 0.5  # after a pause, waiting questions start spread over this time instead of all at once

_random = random.SystemRandom()


@dataclass
class _Waiter:
    tokens: int
    slot: asyncio.Future[float]  # when it may start, by the monotonic clock


class Limiter:
    """Lets one question through at a time, as fast as the endpoint's limits and pauses allow."""

    def __init__(self, endpoint: Endpoint, warehouse: Warehouse, breaker: Breaker) -> None:
        self._named = endpoint.name
        self._row = f"{endpoint.name} {endpoint.url}"
        self._called = hashlib.sha256(self._row.encode()).hexdigest()  # short, whatever the URL
        self._warehouse = warehouse
        self._breaker = breaker
        self._per_request = WINDOW_S / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self._per_token = WINDOW_S / endpoint.tokens_per_minute if endpoint.tokens_per_minute else 0.0
        self.limited = bool(self._per_request or self._per_token)
        self._blocked_until = 0.0  # by this process' monotonic clock
        self._waiting: deque[_Waiter] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._clocks: list[asyncio.Task[None]] = []
        self._session = Session(warehouse, "llm-limits")
        self._had_row = False
        self._owed_tokens = 0  # used beyond (or short of) what was reserved
        self._bytes_per_token = BYTES_PER_TOKEN

    async def __aenter__(self) -> Self:
        if not self.limited:
            self._look(await self._session.run(self._read_pause))
            self._clocks.append(asyncio.create_task(self._keep_looking()))
        self._clocks.append(asyncio.create_task(listen(self._warehouse, PAUSES, self._hear)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._clocks, *([self._pump] if self._pump else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    def tokens(self, prompt_bytes: int) -> int:
        """How many tokens a prompt of this size probably has."""
        return int(prompt_bytes / self._bytes_per_token)

    def settle(self, reserved: int, used: int, prompt_bytes: int, prompt_tokens: int) -> None:
        """Correct the reservation, and the guess behind the next ones, by what a response reports."""
        self._owed_tokens += used - reserved
        if prompt_tokens > 0:
            ratio = min(max(prompt_bytes / prompt_tokens, 1.0), 16.0)
            self._bytes_per_token += 0.05 * (ratio - self._bytes_per_token)

    async def wait(self, tokens: int) -> None:
        """Return when a request of this many tokens may be sent; providers count the longest possible answer.

        Raises:
            Stopped: the batch is over.
            StorageError: Postgres is down; without it the limit cannot be kept.
        """
        while True:
            if self.limited:
                waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
                self._waiting.append(waiter)
                if self._pump is None or self._pump.done():
                    self._pump = asyncio.create_task(self._hand_out())
                slot = await waiter.slot
                self._refuse_to_sleep()
                await self._breaker.pause(slot - time.monotonic())
            self._refuse_to_sleep()
            pause = self._blocked_until - time.monotonic()
            if pause <= 0:
                return
            if not self.limited:
                await self._breaker.pause(pause + _random.uniform(0, SPREAD_S))
            elif pause <= AHEAD_S:
                await self._breaker.pause(pause)
                return
            # else its slot fell into a pause that began after it was taken; the next one lies behind it

    def _refuse_to_sleep(self) -> None:
        """
        Raises:
            Stopped: the endpoint has asked this process or another for a pause longer than PATIENCE_S.
        """
        pause = self._blocked_until - time.monotonic()
        if pause > PATIENCE_S:
            self._breaker.trip(
                Stopped(f"LLM endpoint {self._named} asks for {pause:.0f} s more without requests; rerun it then.")
            )
            self._breaker.check()

    async def block(self, seconds: float) -> None:
        """Pause every process that asks this endpoint."""
        self._look(seconds)
        try:
            call = f"{self._called} {seconds}"
            await self._session.run(partial(endpoint_limits.block, endpoint=self._row, seconds=seconds, call=call))
        except StorageError as error:
            log.warning("Other workers were not told to pause: %s", error)

    async def _hand_out(self) -> None:
        """Take slots for whoever waits, a few at a time, until nobody waits."""
        await asyncio.sleep(0)  # let all that start together join the first statement
        taken: list[_Waiter] = []
        try:
            while self._waiting:
                taken = self._next_few()
                reserved = sum(waiter.tokens for waiter in taken)
                balance = self._owed_tokens + reserved
                tokens, self._owed_tokens = max(0, balance), min(0, balance)
                per_token = self._per_token * tokens / max(1, reserved)  # the correction is spread over all of them
                order = Order(len(taken), tokens, self._per_request, self._per_token)
                slots = await self._session.run(partial(self._take, order=order))
                now = slots.now
                self._look(slots.blocked_until - now)
                requests_at = slots.requests_at - len(taken) * self._per_request
                tokens_at = slots.tokens_at - tokens * self._per_token
                local = time.monotonic() - now
                start = now
                for waiter in taken:
                    start = max(requests_at, tokens_at, now)
                    requests_at += self._per_request
                    tokens_at += waiter.tokens * per_token
                    if not waiter.slot.done():
                        waiter.slot.set_result(local + start)
                taken = []
                await self._breaker.pause(start - now - AHEAD_S)
        except (StorageError, Stopped) as error:
            for waiter in [*taken, *self._waiting]:
                if not waiter.slot.done():
                    waiter.slot.set_exception(error)
            self._waiting.clear()

    def _next_few(self) -> list[_Waiter]:
        """As many as start within AHEAD_S of each other; at least one."""
        few: list[_Waiter] = []
        tokens = 0
        while self._waiting:
            following = self._waiting[0].tokens
            span = max((len(few) + 1) * self._per_request, (tokens + following) * self._per_token)
            if few and span > AHEAD_S:
                break
            few.append(self._waiting.popleft())
            tokens += following
        return few

    def _take(self, connection: Connection, order: Order) -> Slots:
        slots = endpoint_limits.take(connection, self._row, order)
        if slots is None:  # never asked before; or Postgres crashed and forgot what was sent in the last minute
            endpoint_limits.create(connection, self._row, window=WINDOW_S, lost=self._had_row)
            slots = endpoint_limits.take(connection, self._row, order)
            assert slots is not None, "the row was made a moment ago"
            if slots.blocked_until > slots.now:
                wait = slots.blocked_until - slots.now
                log.warning("Postgres has just started: the shared rate limit begins anew in %.0f s", wait)
        self._had_row = True
        return slots

    def _read_pause(self, connection: Connection) -> float:
        return endpoint_limits.pause(connection, self._row)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                self._look(await self._session.run(self._read_pause))
            except StorageError as error:
                log.warning("Cannot see whether other workers were told to pause: %s", error)

    def _hear(self, call: str) -> None:
        """Another worker was told to pause, or this one."""
        endpoint, _, seconds = call.partition(" ")
        if endpoint == self._called:
            self._look(float(seconds))

    def _look(self, pause: float) -> None:
        if pause > 0:
            self._blocked_until = max(self._blocked_until, time.monotonic() + pause)
