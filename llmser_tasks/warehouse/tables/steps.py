"""Steps as people follow them: their state, how far they are, what they used."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from llmser_tasks.core.errors import LlmserError, StorageError, Waiting
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.printable import printable
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable, storable_json

log = logging.getLogger(__name__)

WRITE_EVERY_S = 2.0
LOG_AFTER_S = (5.0, 15.0, 30.0)  # then every LOG_EVERY_S: soon enough to see that it moves, seldom enough to read
LOG_EVERY_S = 30.0
PAUSE_S = 30.0  # without writing, after a write failed

UPDATE = """
    update steps set
        state = coalesce(:state, state), done = coalesce(:done, done), total = coalesce(:total, total),
        unit = coalesce(:unit, unit), note = coalesce(:note, note),
        summary = coalesce(cast(:summary as jsonb), summary), peak_mib = :peak, updated_at = now(),
        artefacts = coalesce(cast(:artefacts as jsonb), artefacts),
        finished_at = case when :finished then now() end
    where run_id = :run and step = :step and part = :part
"""
NOTHING = dict.fromkeys(("state", "done", "total", "unit", "note", "summary", "artefacts"), None) | {"finished": False}


class Recorder:
    """The Progress of one step: into Postgres at most every two seconds, into the log at a human rhythm."""

    def __init__(self, warehouse: Warehouse, run_id: str, step: str, part: str) -> None:
        self.warehouse = warehouse
        self.key = {"run": run_id, "step": step, "part": part}
        self.name = f"{step} {part}".strip()
        self.started = time.monotonic()
        self.written = self.started
        self.logged = 0
        self.first: tuple[float, int] | None = None  # when and at which count we began: a resumed step is not at 0
        self.facts: dict[str, Any] | None = None
        self.made: dict[str, Any] | None = None
        self.state = "done"
        self.reported: dict[str, Any] = {}

    def __call__(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        now = time.monotonic()
        note = printable(note)  # a file's name may stand in it
        if self.first is None:
            self.first = (now, done)
        self.reported = {"done": done, "total": total, "unit": unit, "note": note or None}
        if now - self.written >= WRITE_EVERY_S:
            self.written = now if self._write(self.reported) else now + PAUSE_S
        if now - self.started >= self._next_log():
            self.logged += 1
            log.info("%s: %s", self.name, describe(done, total, unit, note, self.rate(now, done)))

    def summary(self, facts: Mapping[str, Any]) -> None:
        """Small facts to keep with the step."""
        self.facts = dict(facts)

    def artefacts(self, references: Mapping[str, Any]) -> None:
        """What the step made or found, so that the run's results can be found later: name → reference."""
        self.made = dict(references)

    def unchanged(self) -> None:
        """The step was skipped: its result was there."""
        self.state = "unchanged"

    def rate(self, now: float, done: int) -> float | None:
        """Units a second since the first report."""
        assert self.first is not None
        elapsed, gained = now - self.first[0], done - self.first[1]
        return gained / elapsed if elapsed > 0 and gained > 0 else None

    def _next_log(self) -> float:
        if self.logged < len(LOG_AFTER_S):
            return LOG_AFTER_S[self.logged]
        return LOG_AFTER_S[-1] + (self.logged - len(LOG_AFTER_S) + 1) * LOG_EVERY_S

    def begin(self) -> None:
        with transaction(self.warehouse) as connection:
            connection.execute(
                text(
                    "insert into steps (run_id, step, part, state) values (:run, :step, :part, 'running')"
                    " on conflict (run_id, step, part) do update set state = 'running', done = null, total = null,"
                    " unit = null, note = null, summary = null, artefacts = null, peak_mib = null,"
                    " started_at = now(), updated_at = now(), finished_at = null"
                ),
                self.key,
            )

    def end(self, state: str, note: str | None = None) -> None:
        facts = None if self.facts is None else storable_json(self.facts)
        made = None if self.made is None else storable_json(self.made)
        why = {} if note is None else {"note": storable(note)}
        self._write(self.reported | {"state": state, "summary": facts, "artefacts": made, "finished": True} | why)
        log.info("%s: %s after %s", self.name, state, duration(time.monotonic() - self.started))

    def pause(self, note: str) -> None:
        """The step runs on elsewhere; whoever takes it up begins its row anew."""
        self._write(self.reported | {"note": storable(note)})
        log.info("%s: %s", self.name, note)

    def _write(self, values: Mapping[str, Any]) -> bool:
        """Update the row. A database that is away for a moment must not cost hours of training."""
        try:
            with transaction(self.warehouse) as connection:
                connection.execute(text(UPDATE), {**NOTHING, **self.key, **values, "peak": peak_mib()})
        except (StorageError, DBAPIError) as error:
            log.warning("Progress of %s is not recorded for now: %s", self.name, str(error).splitlines()[0])
            return False
        return True


@contextmanager
def recorded(warehouse: Warehouse, run_id: str, step: str, part: str = "") -> Iterator[Recorder]:
    """Keep the row of a step while it runs: running, then done, unchanged or failed.

    Raises:
        StorageError: Postgres is down at the start. Later failures to write progress are only logged.
    """
    recorder = Recorder(warehouse, run_id, step, part)
    recorder.begin()
    try:
        yield recorder
    except Waiting as waiting:
        recorder.pause(str(waiting))
        raise
    except BaseException as error:
        recorder.end("failed", str(error) if isinstance(error, LlmserError) else type(error).__name__)
        raise
    recorder.end(recorder.state)


def tried(warehouse: Warehouse, run_id: str) -> dict[str, Any] | None:
    """The summary of a run's search; None where it has none, or it has not ended."""
    statement = "select summary from steps where run_id = :run and jsonb_typeof(summary -> 'tried') = 'array'"
    with transaction(warehouse) as connection:
        found: dict[str, Any] | None = connection.scalar(text(statement), {"run": run_id})
    return found


def peak_mib() -> int:
    """Peak resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def describe(done: int, total: int | None, unit: str, note: str = "", rate: float | None = None) -> str:
    """How far a step is, for people: `1,200 of 5,000 users (24 %), 310 users/s, 12 s left, 2 failed`."""
    parts = [f"{done:,} {unit}" if not total else f"{done:,} of {total:,} {unit} ({100 * done // total} %)"]
    if rate:
        parts.append(f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s")
        if total and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
    if note:
        parts.append(note)
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
