"""Runs and their batches, as rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables import batches, failed_runs, runs


def test_a_run_from_start_to_end(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r1", "beauty", {"pool": 20, "noun": 'a "product"'})
    row = runs.load(warehouse, "r1")
    assert (row.dataset, row.state, row.config, row.synthetic) == (
        "beauty",
        "running",
        {"pool": 20, "noun": 'a "product"'},
        False,
    )
    with transaction(warehouse) as connection:
        runs.mark_synthetic(connection, "r1")
        runs.finish(connection, "r1")
    row = runs.load(warehouse, "r1")
    assert (row.state, row.synthetic) == ("succeeded", True)
    assert row.finished_at is not None and row.finished_at >= row.started_at


def test_a_rerun_takes_the_run_up_again(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "beauty", {"pool": 20})
    failed_runs.fail(warehouse, "r", "Postgres was away.\0")
    assert (runs.load(warehouse, "r").state, runs.load(warehouse, "r").message) == (
        "failed",
        "Postgres was away.\ufffd",
    )
    runs.create(warehouse, "r", "beauty", {"pool": 20})
    row = runs.load(warehouse, "r")
    assert (row.state, row.message, row.finished_at) == ("running", None, None)


def test_other_settings_need_another_id(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "beauty", {"pool": 20})
    with pytest.raises(InputError, match="Run r exists with other settings; choose another run id"):
        runs.create(warehouse, "r", "beauty", {"pool": 21})
    assert runs.load(warehouse, "r").config == {"pool": 20}


def test_unknown_and_latest(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="There is no run yet"):
        runs.latest(warehouse)
    runs.create(warehouse, "old", "beauty", {})
    runs.create(warehouse, "new", "yelp", {})
    assert runs.latest(warehouse).run_id == "new"
    assert runs.latest(warehouse, "beauty").run_id == "old"
    with pytest.raises(InputError, match="There is no run 'gone'; `llmser show runs` lists them"):
        runs.load(warehouse, "gone")


def test_attempts_of_a_batch_add_up(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "beauty", {})
    where = (warehouse, batches.Account("r", "snf", 0), "users 0–511", 512)
    batches.record(*where, batches.Standing("running"))
    meter = batches.Meter(batches.Account("r", "snf", 0))
    meter.calls, meter.lost = 300, 0.25
    spend(warehouse, meter, Entry("k", "snf", "1", "m", 1, prompt_tokens=10, cost=0.5))
    batches.record(*where, batches.Standing("failed", answered=300, failed=212, message="503"))
    meter.calls += 12
    spend(warehouse, meter)
    again = batches.Meter(batches.Account("r", "snf", 0), calls=200)
    spend(warehouse, again, Entry("l", "snf", "1", "m", 1, prompt_tokens=7))
    batches.record(*where, batches.Standing("done", answered=512))
    with transaction(warehouse) as connection:
        row = connection.execute(
            text("select state, answered, failed, calls, prompt_tokens, cost, lost, message from batches")
        ).one()
    assert tuple(row) == ("done", 512, 0, 512, 17, 0.5, 0.25, None)


def spend(warehouse: Warehouse, meter: batches.Meter, *entries: Entry) -> None:
    assert meter.unwritten
    with transaction(warehouse) as connection:
        counted = meter.write(connection, entries)
    meter.written(counted)
    assert not meter.unwritten


def test_a_run_taken_up_is_running_until_it_fails_again(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "sample", {})
    before = datetime.now(UTC) - timedelta(hours=1)
    failed_runs.fail(warehouse, "r", "Out of budget.", "budget")
    failed_runs.take_up(warehouse, "r", before)
    assert (runs.load(warehouse, "r").state, runs.load(warehouse, "r").failure) == ("failed", "budget")
    failed_runs.take_up(warehouse, "r", datetime.now(UTC) + timedelta(hours=1))
    row = runs.load(warehouse, "r")
    assert (row.state, row.message, row.failure, row.finished_at) == ("running", None, None, None)
    assert row.taken_up_at and row.taken_up_at > datetime.now(UTC)
    with transaction(warehouse) as connection:
        runs.finish(connection, "r")
    failed_runs.take_up(warehouse, "r", datetime.now(UTC) + timedelta(hours=1))
    assert runs.load(warehouse, "r").state == "succeeded"


def test_a_run_from_before_a_setting_keeps_what_it_did(warehouse: Warehouse) -> None:
    runs.create(warehouse, "old", "tiny", {"epochs": 1})
    chosen = {"epochs": 1, "ties": "hash", "item_text": ["title", "city"]}
    runs.create(warehouse, "new", "tiny", chosen)
    assert runs.load(warehouse, "old").settings == {"epochs": 1, "ties": "file", "item_text": ["title"]}
    assert runs.load(warehouse, "new").settings == chosen
    runs.create(warehouse, "old", "tiny", {"epochs": 1, "ties": "file"})  # goes on
    with pytest.raises(InputError, match="exists with other settings"):
        runs.create(warehouse, "old", "tiny", {"epochs": 1, "ties": "hash"})
