"""Stop a batch whose endpoint does not answer, instead of failing every one of its questions slowly."""

from __future__ import annotations

import asyncio
import time

from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import LlmError, RateLimited, Retriable

FAILURES = 30  # in a row, without a success in between; a loaded but living server does not get there
SECONDS = 10.0  # over which they must stretch, so that a server's restart does not end a batch


class Stopped(Retriable):
    """The batch was given up before this question was answered."""

    kind = "not asked"


class Breaker:
    """Counts failures in a row; once it has tripped, nothing more is sent and every wait ends at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._failures = 0
        self._since = 0.0
        self._tripped = asyncio.Event()
        self.cause: Exception | None = None  # set: the batch is over

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: LlmError, final: bool) -> None:
        """Count a failed attempt. Being told to slow down counts only where a question is given up for it."""
        if isinstance(error, RateLimited) and not final:
            return
        now = time.monotonic()
        if not self._failures:
            self._since = now
        self._failures += 1
        if self._failures >= FAILURES and now - self._since >= SECONDS:
            self.trip(
                Stopped(
                    f"LLM endpoint {self._endpoint.name} failed {self._failures} times in a row over "
                    f"{now - self._since:.0f} s, so the batch was stopped; the last time: {error} "
                    "Rerun once it answers again: only what is missing will be asked."
                )
            )

    def trip(self, cause: Exception) -> None:
        if self.cause is None:
            self.cause = cause
            self._tripped.set()

    def check(self) -> None:
        """
        Raises:
            Stopped: the batch is over.
        """
        if self.cause is not None:
            raise Stopped(str(self.cause))

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than the batch lives.

        Raises:
            Stopped: the batch is over.
        """
        if seconds > 0 and self.cause is None and not await happens(self._tripped, seconds):
            return
        self.check()


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within this time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
