"""What reaches a StatsD server, in the words that Airflow's own logger sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.statsd_logger import SafeStatsdLogger
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.observability import stats

import llmser_metrics
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables import batches, runs
from llmser_tasks.warehouse.tables.batches import Account, Meter

BATCH = {"batch": 3, "first": 0, "last": 9, "label": "users 0–9"}


class Client:
    """Lines as the package `statsd` writes them, over UDP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def _send(self, line: str) -> None:
        self.socket.sendto(f"airflow.{line}".encode(), ("127.0.0.1", self.port))

    def incr(self, stat: str, count: int, rate: float) -> None:
        self._send(f"{stat}:{count}|c")

    def timing(self, stat: str, dt: float) -> None:
        self._send(f"{stat}:{dt:.6f}|ms")


class Server:
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0)

    def received(self) -> dict[str, float]:
        """Name with its tag → value; loopback keeps what was sent until it is read."""
        found = {}
        while True:
            try:
                line = self.socket.recv(2000).decode()
            except BlockingIOError:
                return found
            name, value = line.rsplit(":", 1)
            found[name] = float(value.split("|")[0])


@pytest.fixture
def statsd() -> Iterator[Server]:
    server = Server()
    client: Any = Client(server.socket.getsockname()[1])
    logger = SafeStatsdLogger(client, influxdb_tags_enabled=True, statsd_influxdb_enabled=True)
    stats.initialize(factory=lambda: logger, export_legacy_names=False)
    yield server
    stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
    client.socket.close()
    server.socket.close()


@pytest.fixture
def warehouse(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    runs.create(warehouse, "r", "beauty", {})
    return warehouse


def spend(warehouse: Warehouse, calls: int, failed: int, accepted: int = 0) -> None:
    """An attempt of the batch, as it is recorded."""
    batches.record(warehouse, batches.Account("r", "snf", 3), "users 0–9", 10, batches.Standing("running"))
    meter = Meter(Account("r", "snf", 3), calls=calls)
    entries = [
        Entry(f"k{n}", "snf", "1", "m", 1, content="c", prompt_tokens=100, completion_tokens=7, cost=0.0005)
        for n in range(calls)
    ]
    with transaction(warehouse) as connection:
        meter.write(connection, entries)
    batches.record(
        warehouse,
        batches.Account("r", "snf", 3),
        "users 0–9",
        10,
        batches.Standing("done", answered=10 - failed, failed=failed, accepted=accepted),
    )


def test_a_task_reports_how_long_it_took(statsd: Server) -> None:
    with llmser_metrics.measured("ingest", "r", "beauty"):
        pass
    assert list(statsd.received()) == ["airflow.llmser.ingest.duration,dataset=beauty"]


def test_questions_report_what_this_attempt_cost_and_left(statsd: Server, warehouse: Warehouse) -> None:
    for calls, failed, accepted in ((4, 2, 0), (2, 1, 1)):
        with llmser_metrics.measured("snf", "r", "beauty", BATCH):
            spend(warehouse, calls, failed, accepted)
        found = {
            name.removeprefix("airflow.llmser.snf.").removesuffix(",dataset=beauty"): value
            for name, value in statsd.received().items()
        }
        assert found.pop("duration") > 0
        assert found == {
            "calls": calls, "prompt_tokens": 100 * calls, "completion_tokens": 7 * calls,
            "cost_millionths": 500 * calls, "unanswered": failed, "accepted": accepted,
        }  # fmt: skip


def test_a_failure_counts_and_a_task_that_is_put_off_does_not(statsd: Server, warehouse: Warehouse) -> None:
    with pytest.raises(ValueError, match="broken"), llmser_metrics.measured("snf", "r", "beauty", BATCH):
        raise ValueError("broken")
    assert statsd.received()["airflow.llmser.snf.failures,dataset=beauty"] == 1
    later = TaskDeferred(trigger=TimeDeltaTrigger(timedelta(seconds=5)), method_name="execute")
    with pytest.raises(TaskDeferred), llmser_metrics.measured("snf", "r", "beauty", BATCH):
        raise later
    assert not {name for name in statsd.received() if "failures" in name or "unanswered" in name}


def test_a_warehouse_that_is_away_costs_the_figures_and_nothing_else(
    statsd: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", "postgresql+psycopg2://u:p@127.0.0.1:9/none")
    with llmser_metrics.measured("snf", "r", "beauty", BATCH):
        pass
    assert list(statsd.received()) == ["airflow.llmser.snf.duration,dataset=beauty"]
