import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from llm_double import Double, fails, first_choices
from patience import PATIENCE_S, Stalls
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import ratelimit
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.fleet.ratelimit import Limiter
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.listening import listen
from llmser_tasks.warehouse.session import Session

Make = Callable[..., list[PickQuestion]]

_BATCH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import build_question
first, count = int(sys.argv[4]), int(sys.argv[5])
questions = [build_question(step="snf", prompt_version="t1", instructions="Pick.", history=[f"thing {n}"],
                            candidates=["a", "b", "c"], picks=2, seed=n) for n in range(first, first + count)]
endpoint = Endpoint("double", sys.argv[2], "m", max_concurrency=16, **json.loads(sys.argv[6]))
print("ready", flush=True)
sys.stdin.readline()
print(answer(endpoint, questions, Warehouse(sys.argv[3])).unanswered)
"""


def _workers(endpoint: Endpoint, warehouse: Warehouse, number: int, count: int, limits: dict) -> list[subprocess.Popen]:
    """Processes that each ask `count` questions of their own, started together."""
    root = str(Path(ratelimit.__file__).parents[3])
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                _BATCH,
                root,
                endpoint.url,
                warehouse.url,
                str(n * count),
                str(count),
                json.dumps(limits),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(number)
    ]
    for process in started:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def _known(endpoint: Endpoint, warehouse: Warehouse) -> None:
    """As if the endpoint had been asked before; a fresh server would make limited endpoints wait."""
    with transaction(warehouse) as connection:
        connection.execute(
            text("insert into endpoint_limits (endpoint) values (:e)"), {"e": f"{endpoint.name} {endpoint.url}"}
        )


def _worst(moments: list[float], window: float) -> int:
    ordered = sorted(moments)
    return max(sum(first <= m < first + window for m in ordered) for first in ordered)


def test_two_processes_share_requests_per_minute(endpoint: Endpoint, double: Double, warehouse: Warehouse) -> None:
    _known(endpoint, warehouse)
    with Stalls() as late:
        for process in _workers(endpoint, warehouse, 2, 40, {"requests_per_minute": 1800}):
            assert process.communicate(timeout=PATIENCE_S)[0] == "0\n"
    moments = sorted(double.times)
    assert len(moments) == 80
    # 30 a second are allowed; that the limiter is no slower either is for benchmarks/limiter.py to say.
    assert 79 / (moments[-1] - moments[0] + late.allowed) <= 31
    assert _worst(moments, 1.0) <= 40 + 30 * late.allowed  # a stalled machine sends late what was due before


def test_tokens_are_limited_and_estimates_corrected(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    """110 tokens a call are reported; whatever was estimated, 66,000 a minute allow 10 calls a second."""
    _known(endpoint, warehouse)
    with Stalls() as late:
        answer(replace(endpoint, tokens_per_minute=66_000), questions(45), warehouse)
    moments = sorted(double.times)
    later = moments[20:]  # by then the estimate is corrected
    assert (len(later) - 1) / (later[-1] - later[0] + late.allowed) <= 11.5
    with transaction(warehouse) as connection:  # slots beyond the last answer: none was taken for guesses
        ahead = connection.scalar(text("select tokens_at from endpoint_limits")) - moments[0]
    assert ahead <= 45 / 7 + late.total


def test_another_process_pause_is_seen(endpoint: Endpoint, double: Double, warehouse: Warehouse) -> None:
    """One worker is told to wait; it calls the others, and nobody asks until the time is over."""
    double.script = lambda number, body: (
        fails(429, headers={"retry-after": "3"}) if number == 40 else replace(first_choices(body), delay=0.2)
    )
    with Stalls() as late:
        for process in _workers(endpoint, warehouse, 2, 120, {}):
            assert process.communicate(timeout=PATIENCE_S)[0] == "0\n"
    told = double.times[40]
    seen = told + ratelimit.POLL_S + 0.5 + late.allowed
    assert not [m for m in double.times if seen < m < told + 2.99]
    assert [m for m in double.times if m > told + 2.99]


def test_a_pause_is_called_out(endpoint: Endpoint, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "POLL_S", 3600.0)

    async def run() -> None:
        breaker = Breaker(endpoint)
        async with Limiter(endpoint, warehouse, breaker) as told, Limiter(endpoint, warehouse, breaker) as other:
            waited = 0.0
            while waited < 0.1:  # until the other one listens, and hears
                await told.block(0.2)
                began = time.monotonic()
                await other.wait(0)
                waited = time.monotonic() - began

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_slots_that_fall_into_a_pause_are_taken_anew(endpoint: Endpoint, warehouse: Warehouse) -> None:
    """Who held a slot when the pause began does not start at its end beside those whose turn it is."""
    _known(endpoint, warehouse)
    endpoint = replace(endpoint, requests_per_minute=60 * 40)
    started: list[float] = []

    async def run() -> None:
        breaker = Breaker(endpoint)
        async with Limiter(endpoint, warehouse, breaker) as told, Limiter(endpoint, warehouse, breaker) as other:

            async def ask() -> None:
                await other.wait(0)
                started.append(time.monotonic())

            waiting = [asyncio.create_task(ask()) for _ in range(60)]
            while not started:
                await asyncio.sleep(0.001)
            await told.block(1.0)
            began = time.monotonic()
            with Stalls() as late:
                await asyncio.gather(*waiting)
            assert not [moment for moment in started if began + 0.25 + late.allowed < moment < began + 0.95]
            after = sorted(moment - began for moment in started if moment > began + 0.9)
            assert len(after) > 15
            # One every 25 ms again, none at once.
            assert (after[-1] - after[0]) >= (len(after) - 1) / 40 - 0.1 - late.allowed

    asyncio.run(run())


def test_a_call_is_heard_after_postgres_was_away(warehouse: Warehouse) -> None:
    heard: list[str] = []

    async def run() -> None:
        listening = asyncio.create_task(listen(warehouse, "llmser_test", heard.append))
        for said in ("first", "second"):
            while said not in heard:
                with transaction(warehouse) as connection:
                    connection.execute(text("select pg_notify('llmser_test', :said)"), {"said": said})
                await asyncio.sleep(0.05)
            with transaction(warehouse) as connection:
                connection.execute(
                    text("select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen llmser_test'")
                )
        listening.cancel()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_a_pause_outlives_the_process_that_was_told(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    with transaction(warehouse) as connection:
        connection.execute(
            text("insert into endpoint_limits values (:e, 0, 0, extract(epoch from now()) + 1)"),
            {"e": f"{endpoint.name} {endpoint.url}"},
        )
    started = time.time()
    answer(endpoint, questions(1), warehouse)
    assert double.times[0] - started >= 0.9


def test_no_limits_cost_no_statement_per_question(endpoint: Endpoint, warehouse: Warehouse) -> None:
    async def many() -> None:
        async with Limiter(endpoint, warehouse, Breaker(endpoint)) as limiter:
            for clock in limiter._clocks:  # these look now and then, whatever is asked
                clock.cancel()
            with mock.patch.object(Session, "run", side_effect=AssertionError("a statement")):
                for _ in range(10_000):
                    await limiter.wait(0)

    asyncio.run(many())


def test_a_lost_row_blocks_one_window(endpoint: Endpoint, warehouse: Warehouse) -> None:
    """Unlogged tables are empty after a crash, and nobody knows what was sent in the minute before."""
    _known(endpoint, warehouse)
    endpoint = replace(endpoint, requests_per_minute=6000)
    breaker = Breaker(endpoint)
    lost = 0.0

    async def run() -> None:
        async with Limiter(endpoint, warehouse, breaker) as limiter:
            await limiter.wait(10)
            with transaction(warehouse) as connection:
                connection.execute(text("truncate endpoint_limits"))
            nonlocal lost
            lost = time.time()
            asyncio.get_running_loop().call_later(0.5, breaker.trip, Stopped("enough"))
            await limiter.wait(10)

    with pytest.raises(Stopped):
        asyncio.run(run())
    with transaction(warehouse) as connection:
        until = connection.scalar(text("select blocked_until from endpoint_limits"))
    assert lost + 60 <= until <= time.time() + 60


def test_waiting_ends_when_postgres_does(endpoint: Endpoint, double: Double, questions: Make) -> None:
    """Without the shared row the limit cannot be kept, so nothing is sent."""
    from llmser_tasks.core.errors import StorageError

    async def run() -> None:
        limited = replace(endpoint, requests_per_minute=60)
        away = Warehouse("postgresql+psycopg2://u:pw@127.0.0.1:1/x")
        async with Limiter(limited, away, Breaker(limited)) as limiter:
            await asyncio.gather(*(limiter.wait(1) for _ in range(3)))

    with pytest.raises(StorageError):
        asyncio.run(run())
