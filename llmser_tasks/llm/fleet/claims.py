"""Who is asking what right now, so that batches running side by side pay once for a question they share.

A claim is a row that names its owner, and the owner is alive as long as its connection holds an advisory lock: a
killed worker's claims are free the moment Postgres notices, with no clock to tune. A claim is given up by the
transaction that writes the answer, so whoever gets it next finds the answer in the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.session import Session
from llmser_tasks.warehouse.tables import question_claims

log = logging.getLogger(__name__)
Result = TypeVar("Result")

AT_ONCE = 100  # claimed by one statement: as many another batch may wait for although nobody is asking them yet
POLL_S = 0.5  # how often to look for the answers that others are getting


class Claims:
    """Hands out the questions of one batch: first what nobody else is asking, then what others left unanswered."""

    def __init__(
        self, warehouse: Warehouse, keys: Iterable[str], breaker: Breaker, found: Callable[[Collection[Entry]], None]
    ) -> None:
        """
        Args:
            keys: distinct questions that the ledger does not hold.
            found: called with those that others have settled in the meantime.
        """
        self._warehouse = warehouse
        self._breaker = breaker
        self._found = found
        self._open = deque(keys)
        self._mine: deque[str] = deque()
        self._others: dict[str, None] = {}  # which others are asking, in order
        self._turn = asyncio.Lock()
        self.owner = secrets.randbits(31)
        self._session = Session(warehouse, "llm-claims", partial(question_claims.live, owner=self.owner))

    async def __aenter__(self) -> Self:
        await self._patiently(lambda _: None)  # from now on we are seen to live
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._give_up(partial(question_claims.leave, owner=self.owner))
        await self._session.close()

    async def following(self) -> str | None:
        """The next question to ask; None where nothing is left, or the batch is over.

        Waits while all that is left is being asked by others.
        """
        async with self._turn:
            return await self._next()

    async def following_few(self, fits: Callable[[list[str], str], bool]) -> list[str]:
        """The next questions to ask together; none where nothing is left, or the batch is over.

        Args:
            fits: whether a question may join these. What others are asking is not waited for.
        """
        async with self._turn:
            first = await self._next()
            few = [] if first is None else [first]
            try:
                while few and (self._mine or self._open):
                    if not self._mine:
                        await self._claim(_first(self._open))
                    elif fits(few, self._mine[0]):
                        few.append(self._mine.popleft())
                    else:
                        break
            except StorageError as error:
                self._breaker.trip(error)
            except Stopped:
                pass
            return few

    @property
    def waiting(self) -> int:
        """Questions that others are asking, as far as is known."""
        return len(self._others)

    async def release(self, keys: Collection[str]) -> None:
        """Let others ask these."""
        await self._give_up(partial(question_claims.release, owner=self.owner, keys=keys))

    async def _next(self) -> str | None:
        """As `following`; whoever calls has the turn."""
        try:
            while not self._mine and self._open:
                await self._claim(_first(self._open))
            while not self._mine and self._others:
                await self._breaker.pause(POLL_S)
                others = deque(self._others)
                while not self._mine and others:
                    await self._claim(_first(others))
            self._breaker.check()
        except StorageError as error:
            self._breaker.trip(error)
            return None
        except Stopped:
            return None
        return self._mine.popleft() if self._mine else None

    async def _claim(self, keys: list[str]) -> None:
        """Claim what is free of these, then see which of them were answered just before."""
        mine = await self._patiently(partial(question_claims.take, owner=self.owner, keys=keys))
        settled = await self._patiently(lambda _: ledger.known(self._warehouse, keys))
        for key in keys:
            if key not in mine and key not in settled:
                self._others[key] = None
                continue
            self._others.pop(key, None)
            if key not in settled:
                self._mine.append(key)
        if settled:
            self._found(settled.values())
            await self.release(mine & settled.keys())

    async def _give_up(self, work: Callable[[Connection], None]) -> None:
        try:
            await self._session.run(work)
        except StorageError as error:
            log.debug("Claims were not given up, but end with the connection: %s", error)

    async def _patiently(self, work: Callable[[Connection], Result]) -> Result:
        """Wait for a Postgres that restarts, as the ledger does."""
        for wait in ledger.RETRIES_S:
            try:
                return await self._session.run(work)
            except StorageError as error:
                log.warning("%s Trying again in %s s.", error, wait)
                await self._breaker.pause(wait)
        return await self._session.run(work)


def _first(keys: deque[str]) -> list[str]:
    """Take as many off as one statement claims."""
    return [keys.popleft() for _ in range(min(AT_ONCE, len(keys)))]
