"""What a batch spends, and the budget that all batches of a run keep together."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_double import FOR_EVER, Double, fails, first_choices
from patience import PATIENCE_S, until
from sqlalchemy import Connection, text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import client
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import budget, fanout
from llmser_tasks.llm.fleet.breaker import Breaker
from llmser_tasks.llm.fleet.budget import BudgetSpent
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.engine import engine, transaction
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables import batches, runs
from llmser_tasks.warehouse.tables.question_claims import LOCKS

Make = Callable[..., list[PickQuestion]]
PRICE = 1.1e-4  # of an answer of the double: 100 tokens in, 10 out
ACCOUNT = batches.Account("r", "snf", 0)


@pytest.fixture
def priced(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, price_per_million_prompt=1.0, price_per_million_completion=1.0)


@pytest.fixture
def run(warehouse: Warehouse) -> Warehouse:
    runs.create(warehouse, "r", "beauty", {})
    for batch in (0, 1, 2):
        batches.record(warehouse, batches.Account("r", "snf", batch), "users", 10, batches.Standing("running"))
    return warehouse


@pytest.fixture
def other(run: Warehouse) -> Iterator[Connection]:
    """Another process' connection; what is owned by 7 counts as a living batch's."""
    with engine(run).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("select pg_advisory_lock(:locks, 7)"), {"locks": LOCKS})
        yield connection
        connection.execute(text("select pg_advisory_unlock_all()"))


def bill(warehouse: Warehouse, batch: int = 0) -> tuple[int, int, float, float, float]:
    with transaction(warehouse) as connection:
        statement = text("select calls, prompt_tokens, coalesce(cost, 0), lost, held from batches where batch = :batch")
        row = connection.execute(statement, {"batch": batch}).one()
    return (row[0], row[1], row[2], row[3], row[4])


def test_the_bill_counts_every_call_and_names_who_paid(
    priced: Endpoint, double: Double, questions: Make, run: Warehouse, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    late = replace(first_choices({"messages": [{"content": '{"candidates": []}'}]}), delay=FOR_EVER)
    double.script = lambda number, body: (fails(503), late, first_choices(body))[min(number, 2)]
    outcomes = answer(replace(priced, timeout_s=3, max_concurrency=1), questions(4), run, account=ACCOUNT)
    calls, tokens, cost, lost, _ = bill(run)
    assert (calls, tokens) == (outcomes.calls, 300) == (5, 300)
    assert cost == pytest.approx(3 * PRICE)
    assert 0.5 * PRICE < lost < 5 * PRICE  # of the one that came too late; the 503 is free
    with transaction(run) as connection:
        rows = connection.execute(text("select run_id, prompt_bytes from answers")).all()
    assert {row.run_id for row in rows} == {"r"}
    assert {row.prompt_bytes for row in rows} == {int(headers["content-length"]) for headers in double.headers[2:]}


def test_a_budget_stops_the_batch_and_keeps_its_answers(
    priced: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    runs.set_budget(run, "r", 20 * PRICE)
    outcomes = answer(priced, questions(100), run, account=ACCOUNT)
    assert isinstance(outcomes.fatal, BudgetSpent) and "llmser budget r AMOUNT" in str(outcomes.fatal)
    _, _, cost, lost, _ = bill(run)
    assert 18 * PRICE < cost + lost <= 20 * PRICE  # less than what one request can cost at most is left
    answered = len(double.times)
    assert cost == pytest.approx(answered * PRICE) and outcomes.unanswered == 100 - answered
    batches.record(run, batches.Account("r", "snf", 0), "users", 10, batches.Standing("failed"))
    assert bill(run)[4] == 0

    runs.set_budget(run, "r", None)
    assert answer(priced, questions(100), run, account=ACCOUNT).unanswered == 0
    assert len(double.times) == 100


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    runs.set_budget(run, "r", 1.0)
    with pytest.raises(InputError, match="nobody knows what the model m costs"):
        answer(endpoint, questions(3), run, account=ACCOUNT)
    assert not double.times


def test_a_model_that_is_free_never_ends_a_budget(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    runs.set_budget(run, "r", 0.0)
    free = replace(endpoint, price_per_million_prompt=0.0, price_per_million_completion=0.0)
    assert answer(free, questions(5), run, account=ACCOUNT).unanswered == 0


_BATCH = """
import sys
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import build_question
from llmser_tasks.warehouse.tables.batches import Account

url, database, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
prices = {"price_per_million_prompt": 1.0, "price_per_million_completion": 1.0}
endpoint = Endpoint("double", url, "m", max_concurrency=8, **prices)
questions = [
    build_question(step="snf", prompt_version="t1", instructions="Pick.", history=[f"thing {batch} {number}"],
                   candidates=["blue socks", "red hat", "green scarf"], picks=2, seed=number)
    for number in range(200)
]
answer(endpoint, questions, Warehouse(database), account=Account("r", "snf", batch))
"""


def start(double: Double, warehouse: Warehouse, batch: int) -> subprocess.Popen[bytes]:
    root = str(Path(fanout.__file__).parents[3])
    command = [sys.executable, "-c", _BATCH, double.url, warehouse.url, str(batch)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root})


def test_batches_side_by_side_keep_one_budget(double: Double, run: Warehouse) -> None:
    runs.set_budget(run, "r", 300 * PRICE)
    double.script = lambda _, body: replace(first_choices(body), delay=0.01)
    for process in [start(double, run, batch) for batch in range(3)]:
        process.wait(PATIENCE_S)
    spent = sum(bill(run, batch)[2] for batch in range(3))
    assert 298 * PRICE < spent <= 300 * PRICE  # what was held for requests in flight was waited for
    assert spent == pytest.approx(len(double.times) * PRICE)


def test_what_a_killed_batch_held_is_free_again(
    priced: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    runs.set_budget(run, "r", 50 * PRICE)
    double.script = lambda _, body: replace(first_choices(body), delay=FOR_EVER if len(double.times) <= 8 else 0)
    stuck = start(double, run, 1)
    until(lambda: len(double.times) >= 8 or stuck.poll() is not None)
    stuck.kill()
    stuck.wait()
    assert bill(run, 1)[4] > 0
    answer(priced, questions(100), run, account=ACCOUNT)
    assert bill(run, 0)[2] > 40 * PRICE


def test_a_batch_that_waits_for_another_leaves_it_its_share_and_its_money(
    priced: Endpoint, questions: Make, run: Warehouse, other: Connection
) -> None:
    runs.set_budget(run, "r", 50 * PRICE)
    one_at_a_time = replace(priced, max_concurrency=1)
    theirs = questions(2)[1].key("m")
    share = text("select wanted, granted from endpoint_workers")
    with ThreadPoolExecutor(1) as thread:
        other.execute(text("insert into claims (question_key, owner) values (:key, 7)"), {"key": theirs})
        ours = thread.submit(answer, one_at_a_time, questions(2), run, account=ACCOUNT)
        try:
            until(lambda: (other.execute(share).all(), round(bill(run)[4] / PRICE, 6)) == ([(0, 0)], 0) or ours.done())
            assert not ours.done()
        finally:
            other.execute(text("delete from claims where owner = 7"))
        assert ours.result(PATIENCE_S).unanswered == 0


def test_batches_that_share_one_place_do_not_wait_for_each_others_money(
    priced: Endpoint, double: Double, questions: Make, run: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.set_budget(run, "r", 30 * PRICE)
    double.script = lambda _, body: replace(first_choices(body), delay=0.03)
    owners = iter((2, 1))  # the higher keeps the place
    monkeypatch.setattr("secrets.randbits", lambda _: next(owners))
    one_at_a_time = replace(priced, max_concurrency=1)
    with ThreadPoolExecutor(2) as threads:
        calls = []
        for batch in (0, 1):
            asked, account = questions(100, first=100 * batch), replace(ACCOUNT, batch=batch)
            calls.append(threads.submit(answer, one_at_a_time, asked, run, account=account))
            until(lambda: double.times)
        ended = [call.result(PATIENCE_S).fatal for call in calls]
    assert all(isinstance(error, BudgetSpent) for error in ended)
    assert 28 * PRICE < bill(run, 0)[2] + bill(run, 1)[2] <= 30 * PRICE


def test_money_that_another_gives_back_while_a_batch_looks_is_not_taken_for_spent(
    priced: Endpoint, questions: Make, run: Warehouse, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.set_budget(run, "r", 50 * PRICE)
    look = budget.what_is_left
    other.execute(text("update batches set held = :all, owner = 7 where batch = 1"), {"all": 50 * PRICE})

    def then_given_back(*arguments: Any) -> Any:
        found = look(*arguments)
        other.execute(text("update batches set held = 0 where batch = 1"))
        return found

    monkeypatch.setattr(budget, "what_is_left", then_given_back)
    assert answer(priced, questions(3), run, account=ACCOUNT).unanswered == 0


def test_a_guess_made_before_a_wait_does_not_stop_the_batch(
    priced: Endpoint, questions: Make, run: Warehouse, other: Connection
) -> None:
    most = 1.6 * PRICE  # that a request can cost, by what many answers say; before the first it is 2.8
    runs.set_budget(run, "r", 101.5 * PRICE)
    endpoint = replace(priced, max_concurrency=2)
    share = text("insert into endpoint_workers (endpoint, owner, wanted, granted) values (:endpoint, 7, 1, 1)")
    other.execute(share, {"endpoint": endpoint.url})  # so one of our two waits, until the other claims the next 100
    answer(endpoint, questions(150), run, account=ACCOUNT)
    assert 101.5 * PRICE - most < bill(run)[2] <= 101.5 * PRICE


def test_what_an_answer_cost_is_held_until_it_is_written(priced: Endpoint, run: Warehouse) -> None:
    runs.set_budget(run, "r", 50 * PRICE)
    meter = batches.Meter(ACCOUNT)

    async def pay_for(count: int) -> None:
        async with budget.Budget(priced, run, meter, 7, Breaker(priced)) as ours:
            for _ in range(count):
                async with ours.pay(lambda: 2 * PRICE) as payment:
                    payment.send()
                    payment.settle(PRICE)

    asyncio.run(pay_for(2))
    held = bill(run)[4]
    ledger.insert(run, [Entry("0" * 64, "snf", "1", "m", 1, content="{}", cost=PRICE)], meter)
    assert held - bill(run)[4] == pytest.approx(PRICE)  # the other answer's price is still in it
