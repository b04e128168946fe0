"""Progress: followed in Postgres and in the log, and never in the way."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import artefacts, runs, steps


@pytest.fixture
def warehouse(warehouse: Warehouse) -> Warehouse:
    runs.create(warehouse, "r", "sample", {})
    return warehouse


class Clock:
    """Time that passes when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("llmser_tasks.warehouse.tables.steps.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def row(warehouse: Warehouse) -> dict[str, object]:
    with transaction(warehouse) as connection:
        return dict(connection.execute(text("select * from steps where run_id = 'r'")).mappings().one())


def test_a_step_runs_and_is_done(warehouse: Warehouse) -> None:
    with steps.recorded(warehouse, "r", "ingest") as progress:
        assert row(warehouse)["state"] == "running"
        progress(3, 4, "lines")
        progress(4, 4, "lines", "almost")
        progress.summary({"users": 7})
    found = row(warehouse)
    assert (found["state"], found["done"], found["total"], found["unit"], found["note"]) == (
        "done",
        4,
        4,
        "lines",
        "almost",
    )
    assert found["summary"] == {"users": 7}
    assert found["finished_at"] is not None
    assert isinstance(found["peak_mib"], int) and 20 < found["peak_mib"] < 100_000


def test_what_a_step_made_is_kept_until_it_starts_over(warehouse: Warehouse) -> None:
    made = Artefact("base/42", "tiny/base/42/f", "c")
    with steps.recorded(warehouse, "r", "base", "seed 42") as progress:
        progress.artefacts({"base/42": made.reference()})
        assert artefacts.of_run(warehouse, "r") == {}
    assert artefacts.of_run(warehouse, "r") == {"base/42": made}
    assert artefacts.of_run(warehouse, "another") == {}
    with steps.recorded(warehouse, "r", "base", "seed 42"):
        assert artefacts.of_run(warehouse, "r") == {}


def test_unchanged_is_said(warehouse: Warehouse) -> None:
    with steps.recorded(warehouse, "r", "base", "42") as progress:
        progress.unchanged()
    assert (row(warehouse)["state"], row(warehouse)["part"]) == ("unchanged", "42")


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (InputError("The file is empty."), "The file is empty."),
        (ValueError("a secret"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_failure_is_recorded_and_goes_on(warehouse: Warehouse, error: BaseException, note: str) -> None:
    with pytest.raises(type(error)), steps.recorded(warehouse, "r", "ingest"):
        raise error
    assert (row(warehouse)["state"], row(warehouse)["note"]) == ("failed", note)


def test_a_rerun_starts_over(warehouse: Warehouse) -> None:
    with pytest.raises(InputError), steps.recorded(warehouse, "r", "ingest") as progress:
        progress(1, 2, "lines")
        raise InputError("no")
    with steps.recorded(warehouse, "r", "ingest"):
        found = row(warehouse)
        assert (found["state"], found["done"], found["note"], found["finished_at"]) == ("running", None, None, None)


def test_at_most_one_write_in_two_seconds(warehouse: Warehouse, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with steps.recorded(warehouse, "r", "train") as progress:
        writes: list[int] = []
        real = progress._write

        def counted(values: dict[str, object]) -> bool:
            writes.append(1)
            return real(values)

        monkeypatch.setattr(progress, "_write", counted)
        for done in range(1000):
            clock.now += 0.01
            progress(done, 1000, "batches")
    assert len(writes) in (4, 5, 6)  # ten seconds, and the end
    assert row(warehouse)["done"] == 999


def test_the_log_tells_rate_and_time_left(warehouse: Warehouse, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "llmser_tasks.warehouse.tables.steps"),
        steps.recorded(warehouse, "r", "snf", "users 0–511") as progress,
    ):
        for done in range(100, 261):  # one a second; what an earlier attempt had done does not count as speed
            progress(done, 500, "users")
            clock.now += 1
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0] == "snf users 0–511: 105 of 500 users (21 %), 1 users/s, 6 min 35 s left"
    assert 6 <= len(lines) <= 9
    assert lines[-1] == "snf users 0–511: done after 2 min 41 s"


def test_a_database_that_goes_away_does_not_stop_the_work(
    warehouse: Warehouse, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING), steps.recorded(warehouse, "r", "train") as progress:
        monkeypatch.setattr(progress, "warehouse", Warehouse("postgresql://llmser:planted@127.0.0.1:1/llmser"))
        for done in range(60):
            clock.now += 1
            progress(done, 60, "epochs")
    warnings = [r.getMessage() for r in caplog.records]
    assert 2 <= len(warnings) <= 4  # it does not try at every epoch
    assert "planted" not in " ".join(warnings)


def test_without_a_database_a_step_does_not_start() -> None:
    with (
        pytest.raises(StorageError, match=r"Postgres at 127\.0\.0\.1:1/llmser"),
        steps.recorded(Warehouse("postgresql://llmser:planted@127.0.0.1:1/llmser"), "r", "train"),
    ):
        raise AssertionError("must not be reached")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_as_people_say_them(seconds: float, words: str) -> None:
    assert steps.duration(seconds) == words


def test_descriptions() -> None:
    assert steps.describe(1200, None, "lines") == "1,200 lines"
    assert steps.describe(0, 0, "users") == "0 users"
    assert (
        steps.describe(1, 3, "epochs", "NDCG@10 .04", 0.1)
        == "1 of 3 epochs (33 %), 0.1 epochs/s, 20 s left, NDCG@10 .04"
    )
