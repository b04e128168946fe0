"""Requests in flight: shared by processes, and fewer while the endpoint complains."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_double import FOR_EVER, Act, Double, fails, first_choices
from patience import PATIENCE_S, until
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import client
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import concurrency, fanout
from llmser_tasks.llm.fleet.breaker import Breaker
from llmser_tasks.llm.fleet.concurrency import Gate, fair_share
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables.question_claims import LOCKS

Make = Callable[..., list[PickQuestion]]

_BATCH = """
import sys
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import build_question

url, database, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
questions = [
    build_question(step="snf", prompt_version="t1", instructions="Pick.", history=[f"{name} {number}"],
                   candidates=["blue socks", "red hat", "green scarf"], picks=2, seed=number)
    for number in range(count)
]
print("ready", flush=True)
sys.stdin.readline()
endpoint = Endpoint("double", url, "m", max_concurrency=12, timeout_s=3600)
print(answer(endpoint, questions, Warehouse(database)).unanswered)
"""


def start(double: Double, warehouse: Warehouse, name: str, count: int) -> subprocess.Popen[bytes]:
    root = str(Path(fanout.__file__).parents[3])
    command = [sys.executable, "-c", _BATCH, double.url, warehouse.url, name, str(count)]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": root}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline() == b"ready\n"
    return process


def go(*processes: subprocess.Popen[bytes]) -> None:
    """Let them ask."""
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()


def shares(warehouse: Warehouse) -> list[tuple[int, int]]:
    """What each batch that lives wants and is granted."""
    with transaction(warehouse) as connection:
        found = connection.execute(text("select wanted, granted from endpoint_workers order by granted")).all()
    return [(row[0], row[1]) for row in found]


def names(double: Double) -> list[str]:
    """Which process each request came from."""
    return [body["messages"][-1]["content"].split('"history":["')[1].split()[0] for body in double.bodies]


@given(st.integers(1, 500), st.dictionaries(st.integers(0, 9), st.integers(1, 300), min_size=1))
def test_shares_are_fair(most: int, wanted: dict[int, int]) -> None:
    shares = fair_share(most, wanted)
    assert sum(shares.values()) == min(most, sum(wanted.values()))  # nothing lies idle, nothing is given twice
    for one in wanted:
        assert 0 <= shares[one] <= wanted[one]
        if shares[one] < wanted[one]:
            assert all(shares[one] >= shares[other] - 1 for other in wanted)


def test_processes_share_the_limit(double: Double, warehouse: Warehouse) -> None:
    together = threading.Event()
    double.script = lambda _, body: replace(first_choices(body), delay=0.1 if together.is_set() else 0.5)
    both = [start(double, warehouse, name, 300) for name in ("one", "two")]
    go(*both)

    def they_share() -> bool:
        return [granted for _, granted in shares(warehouse)] == [6, 6] and {"one", "two"} == set(names(double))

    until(lambda: they_share() or any(process.poll() is not None for process in both))
    assert all(process.poll() is None for process in both)
    together.set()
    assert [process.communicate(timeout=PATIENCE_S)[0] for process in both] == [b"0\n", b"0\n"]
    assert double.most_in_flight == 12
    assert shares(warehouse) == []


def test_a_lease_under_way_does_not_outlive_its_batch(
    endpoint: Endpoint, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "LEASE_S", 0.01)
    alone = {"locks": LOCKS + 1, "endpoint": endpoint.url}

    async def leave_during_a_lease() -> None:
        gate = Gate(endpoint, warehouse, 1, Breaker(endpoint), lambda: 5)
        await gate.__aenter__()
        with transaction(warehouse) as connection:
            connection.execute(text("select pg_advisory_xact_lock(:locks, hashtext(:endpoint))"), alone)
            while not connection.scalar(text("select count(*) from pg_locks where not granted")):
                await asyncio.sleep(0.01)
            leaving = asyncio.create_task(gate.__aexit__(None, None, None))
            await asyncio.wait([leaving], timeout=0.3)
        await leaving

    asyncio.run(leave_during_a_lease())
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select count(*) from endpoint_workers")) == 0


def test_a_killed_process_leaves_its_share(double: Double, warehouse: Warehouse) -> None:
    def script(_: int, body: dict) -> Act:
        return replace(first_choices(body), delay=FOR_EVER if "stuck" in body["messages"][-1]["content"] else 0.2)

    double.script = script
    stuck = start(double, warehouse, "stuck", 50)
    go(stuck)
    until(lambda: len(double.times) >= 12 or stuck.poll() is not None)
    other = start(double, warehouse, "other", 60)
    go(other)
    until(lambda: len(shares(warehouse)) == 2 or other.poll() is not None)
    assert double.in_flight == 12 and "other" not in names(double)  # all twelve are in flight
    stuck.kill()
    stuck.communicate()
    assert other.communicate(timeout=PATIENCE_S)[0] == b"0\n"
    assert double.most_in_flight <= 24  # the server still holds the killed one's requests


def test_it_backs_off_while_the_endpoint_complains_and_recovers(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RATE_BACKOFF_S", 0.05)
    monkeypatch.setattr(client, "ATTEMPTS", 10)  # backing off so much faster, a question may be unlucky more often
    room = 4

    def script(number: int, body: dict) -> Act:
        nonlocal room
        if number == 600:
            room = 32
            double.most_in_flight = 0
        act = fails(429) if double.in_flight > room else first_choices(body)
        return replace(act, delay=0.01 if number < 600 else 0.05)  # so slow that many have to be in flight

    double.script = script
    outcomes = answer(replace(endpoint, max_concurrency=32), questions(1500), warehouse)
    assert outcomes.unanswered == 0
    refused = outcomes.calls - 1500
    assert refused < 0.35 * 600, "a client that does not adapt is refused seven times of eight"
    assert double.most_in_flight > 16, "it has come back"
