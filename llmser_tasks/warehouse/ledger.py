"""The ledger: one row per distinct question that was ever answered, or failed for good. Nothing that stands here
is paid for again, by any user, run or dataset."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables.batches import Meter

log = logging.getLogger(__name__)

GROUP = 200  # answers per commit: row by row ran at 269/s, hundreds at 11,700/s
SECONDS = 2.0  # or after so long, so that a killed worker loses little when answers are slow
KEYS = 5_000  # looked up by one statement
NEVER_ANSWERED = "no answer"  # `answers.failure` of a question to which an endpoint never said anything (`llm.errors`)
VECTOR = "embedding-1"  # `answers.prompt_version` of texts that were embedded; goes up when what is sent of one changes
RETRIES_S = (0.5, 1, 2, 4, 8, 15)  # how long to wait for Postgres to restart, before paid answers are lost


@dataclass(frozen=True)
class Entry:
    """One row of `answers`: what came back for a question. `content` is None where it failed for good."""

    question_key: str
    step: str
    prompt_version: str
    model: str
    attempts: int
    answered_by: str | None = None
    content: str | None = None
    failure: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    latency_ms: int | None = None
    prompt_bytes: int | None = None
    run_id: str | None = None  # which run paid


_COLUMNS = tuple(f.name for f in fields(Entry))
_SELECT = text(
    "select question_key, step, prompt_version, model, attempts, answered_by, content, failure, finish_reason,"
    " prompt_tokens, completion_tokens, cost, latency_ms, prompt_bytes, run_id"
    " from answers where question_key = any(:keys)"
)
_SETTLED_KEYS = text("select question_key from answers where question_key = any(:keys)")
_INSERT = text("""
    insert into answers (question_key, step, prompt_version, model, attempts, answered_by, content, failure,
                         finish_reason, prompt_tokens, completion_tokens, cost, latency_ms, prompt_bytes, run_id)
    select * from unnest(
        (:question_key)::text[], (:step)::text[], (:prompt_version)::text[], (:model)::text[], (:attempts)::int[],
        (:answered_by)::text[], (:content)::text[], (:failure)::text[], (:finish_reason)::text[],
        (:prompt_tokens)::int[], (:completion_tokens)::int[], (:cost)::float8[], (:latency_ms)::int[],
        (:prompt_bytes)::int[], (:run_id)::text[])
    on conflict do nothing
    returning question_key
""")
_SETTLED = text("delete from claims where question_key = any(:question_key)")


def known(warehouse: Warehouse, keys: Sequence[str]) -> dict[str, Entry]:
    """The rows that exist for these keys.

    Raises:
        StorageError: Postgres is down.
    """
    found: dict[str, Entry] = {}
    with transaction(warehouse) as connection:
        for first in range(0, len(keys), KEYS):
            for row in connection.execute(_SELECT, {"keys": list(keys[first : first + KEYS])}):
                found[row[0]] = Entry(*row)
    return found


def settled(warehouse: Warehouse, keys: Sequence[str]) -> set[str]:
    """Which of these keys have a row.

    Raises:
        StorageError: Postgres is down.
    """
    found: set[str] = set()
    with transaction(warehouse) as connection:
        for first in range(0, len(keys), KEYS):
            found.update(connection.scalars(_SETTLED_KEYS, {"keys": list(keys[first : first + KEYS])}))
    return found


def insert(warehouse: Warehouse, entries: Sequence[Entry], meter: Meter | None = None) -> set[str]:
    """Write rows, end the claims on them and bring the batch's bill up to date, in one transaction.

    A key that is there already stays as it is.

    Returns:
        The keys that were there already: someone else was answered first, and that answer counts.

    Raises:
        StorageError: Postgres stayed away for half a minute.
    """
    for wait in (*RETRIES_S, None):
        try:
            with transaction(warehouse) as connection:
                written = write(connection, entries)
                counted = meter.write(connection, entries) if meter else None
            if meter and counted:
                meter.written(counted)
            return {entry.question_key for entry in entries} - written
        except StorageError as error:
            if wait is None:
                raise StorageError(f"{len(entries)} paid answers could not be written: {error}") from None
            log.warning("%s Trying again in %s s.", error, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def write(connection: Connection, entries: Sequence[Entry]) -> set[str]:
    """Write rows and end the claims on them, within the caller's transaction; returns the keys that were new."""
    ordered = sorted(entries, key=lambda entry: entry.question_key)  # in one order, or two processes could deadlock
    values = {column: [getattr(entry, column) for entry in ordered] for column in _COLUMNS}
    written = set(connection.execute(_INSERT, values).scalars())
    connection.execute(_SETTLED, {"question_key": values["question_key"]})
    return written


class Writer:
    """Collects answers and commits them in groups, without holding up those who wait for others."""

    def __init__(self, warehouse: Warehouse, meter: Meter | None = None) -> None:
        """
        Args:
            meter: of the batch that pays.
        """
        self._warehouse = warehouse
        self._meter = meter
        self._pending: list[Entry] = []
        self._oldest = 0.0
        self._turn = threading.Lock()
        self.answered_first: set[str] = set()  # keys for which another process' answer counts

    def add(self, entry: Entry) -> bool:
        """Collect an answer; True when it is time to `write`."""
        if not self._pending:
            self._oldest = time.monotonic()
        self._pending.append(entry)
        return len(self._pending) >= GROUP

    async def write(self) -> None:
        """Commit what was collected, in a thread."""
        await asyncio.to_thread(self.flush)

    async def keep_writing(self) -> None:
        """Commit what has waited for SECONDS, until cancelled."""
        while True:
            await asyncio.sleep(SECONDS / 4)
            if self._pending and time.monotonic() - self._oldest >= SECONDS * 3 / 4:
                await self.write()

    def flush(self) -> None:
        """Commit everything that was collected, and what was spent in vain.

        Raises:
            StorageError: Postgres stayed away; the entries are still collected.
        """
        with self._turn:
            while (group := self._pending[:GROUP]) or (self._meter and self._meter.unwritten):
                self.answered_first |= insert(self._warehouse, group, self._meter)
                del self._pending[: len(group)]
