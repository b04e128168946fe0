"""Waiting in tests: for the sign of what is waited for, with an end so late that only what hangs reaches it.

A machine may be thirty times busier than the one on which a test was written. So no test waits by the clock, and none
takes a late answer for a wrong one; where something *must not come too early*, it may come as much later as the machine
stood still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE_S = 600.0
LOOK_EVERY_S = 0.02


def until(sign: Callable[[], object], why: Callable[[], object] = lambda: "it has not happened") -> None:
    """Return once `sign()` is true; `why()` is what a test that waited in vain says."""
    end = time.monotonic() + PATIENCE_S
    while not sign():
        assert time.monotonic() < end, why()
        time.sleep(LOOK_EVERY_S)


class Stalls:
    """How long this process was kept from running while the block ran: a thread of its own wakes up too late.

    Attributes:
        allowed: the longest time at once, in seconds; so late a moment may be.
        total: all of them together.
    """

    def __init__(self) -> None:
        self.allowed = self.total = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            self._over.wait(LOOK_EVERY_S)
            late = time.monotonic() - before - LOOK_EVERY_S
            self.allowed = max(self.allowed, late)
            self.total += late
