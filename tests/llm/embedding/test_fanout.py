"""Many texts: asked once, paid once, in whatever portions the endpoint takes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from embedding_double import DIMENSION, Answer, Body, Double, embedding_server, embeddings, good, refuses, vector
from endpoint_double import run_id
from patience import until

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.embedding import fanout
from llmser_tasks.llm.embedding.estimate import estimate
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointUnsupported, KeyRefused, LlmError, QuotaExhausted
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.tables import batches, runs
from llmser_tasks.warehouse.tables.batches import Account, Standing

__all__ = ["embedding_server", "embeddings", "run_id"]

STEP = "item-vectors"
TEXTS = [f"text number {number}" for number in range(150)]
PRICED = {"price_per_million_prompt": 10.0}


def embed(endpoint: Endpoint, texts: list[str], warehouse: Warehouse, account: Account | None = None) -> fanout.Vectors:
    return fanout.embed(endpoint, texts, warehouse, STEP, account=account)


def test_every_distinct_text_is_sent_once_and_comes_back_in_order(embeddings: Double, warehouse: Warehouse) -> None:
    made = embed(embeddings.endpoint, ["b", *TEXTS, "a", "b"], warehouse)
    assert np.array_equal(made.vectors, [vector(text) for text in ["b", *TEXTS, "a", "b"]])
    assert made.dimension == DIMENSION and made.refused == 0
    assert sorted(embeddings.texts) == sorted(["a", "b", *TEXTS])
    assert made.calls == len(embeddings.asked) <= 6
    assert all(len(body["input"]) <= fanout.TEXTS for body in embeddings.asked)
    assert made.tokens == sum(map(len, embeddings.texts))


def test_what_the_ledger_holds_is_not_sent_again(embeddings: Double, warehouse: Warehouse) -> None:
    embed(embeddings.endpoint, TEXTS[:100], warehouse)
    embeddings.asked.clear()
    made = embed(embeddings.endpoint, TEXTS, warehouse)
    assert sorted(embeddings.texts) == sorted(TEXTS[100:])
    assert made.from_ledger == 100
    assert np.array_equal(made.vectors, [vector(text) for text in TEXTS])
    embeddings.asked.clear()
    elsewhere = replace(embeddings.endpoint, name="another", url="http://127.0.0.1:9/v1")
    assert np.array_equal(embed(elsewhere, TEXTS, warehouse).vectors, made.vectors), "nobody is asked"
    assert not embeddings.asked


def test_texts_are_bounded_by_tokens_too(
    embeddings: Double, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "TOKENS", 100)
    long = [f"{number:03d}" + "x" * 197 for number in range(10)]
    embed(embeddings.endpoint, [*long, "y" * 4000], warehouse)
    assert max(len(body["input"]) for body in embeddings.asked) == 2, "of 50 tokens each; one alone may be longer"


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_takes_no_encoding_is_asked_without(
    embeddings: Double, warehouse: Warehouse, status: int
) -> None:
    def script(_: int, body: Body) -> Answer:
        return refuses(status, "Unknown parameter: encoding_format") if "encoding_format" in body else good(body)

    embeddings.script = script
    made = embed(embeddings.endpoint, TEXTS, warehouse)
    assert np.array_equal(made.vectors, [vector(text) for text in TEXTS])
    embeddings.asked.clear()
    embed(embeddings.endpoint, ["another"], warehouse)
    assert len(embeddings.asked) == 1, "which is remembered"


def test_an_endpoint_that_takes_few_texts_gets_few(embeddings: Double, warehouse: Warehouse) -> None:
    def script(_: int, body: Body) -> Answer:
        too_many = refuses(400, "batch size is invalid, it should not be larger than 10")
        return too_many if len(body["input"]) > 10 else good(body)

    embeddings.script = script
    made = embed(embeddings.endpoint, TEXTS, warehouse)
    assert np.array_equal(made.vectors, [vector(text) for text in TEXTS])
    too_many = sum(len(body["input"]) > 10 for body in embeddings.asked)
    assert too_many <= 4 * 4, "once it is known, nobody tries again"


def test_a_text_that_is_too_long_is_cut_until_it_fits(embeddings: Double, warehouse: Warehouse) -> None:
    def script(_: int, body: Body) -> Answer:
        if any(len(text) > 1000 for text in body["input"]):
            return refuses(400, "This model's maximum context length is 512 tokens", "context_length_exceeded")
        return good(body)

    embeddings.script = script
    long = "x" * 9_000
    made = embed(embeddings.endpoint, ["short", long, "other"], warehouse)
    assert np.array_equal(made.vectors[[0, 2]], [vector("short"), vector("other")])
    assert np.array_equal(made.vectors[1], vector("x" * 1000))
    embeddings.asked.clear()
    embed(embeddings.endpoint, [long], warehouse)
    assert not embeddings.asked


def test_a_text_that_is_refused_for_good_has_no_vector_and_is_not_sent_again(
    embeddings: Double, warehouse: Warehouse
) -> None:
    def script(_: int, body: Body) -> Answer:
        return refuses(400, "filtered", "content_filter") if "bad" in body["input"] else good(body)

    embeddings.script = script
    made = embed(embeddings.endpoint, ["good", "bad", "fine"], warehouse)
    assert made.refused == 1 and not made.vectors[1].any() and made.vectors[[0, 2]].all(axis=1).all()
    embeddings.asked.clear()
    assert embed(embeddings.endpoint, ["good", "bad"], warehouse).refused == 1
    assert not embeddings.asked


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (refuses(401, "no such key"), KeyRefused, "refuses its key"),
        (refuses(429, "no money", "insufficient_quota"), QuotaExhausted, "no quota"),
        (refuses(404, "no such model", "model_not_found"), EndpointUnsupported, "double"),
    ],
)
def test_what_a_person_has_to_mend_ends_it_at_once(
    embeddings: Double, warehouse: Warehouse, answer: Answer, error: type[LlmError], said: str
) -> None:
    embeddings.script = lambda number, body: answer if number else good(body)
    with pytest.raises(error, match=said):
        embed(replace(embeddings.endpoint, max_concurrency=1), TEXTS, warehouse)
    assert len(embeddings.asked) == 2
    embeddings.script = lambda _, body: good(body)
    embeddings.asked.clear()
    embed(embeddings.endpoint, TEXTS, warehouse)
    assert len(embeddings.texts) == len(TEXTS) - fanout.TEXTS, "what came before is kept"


def test_what_passes_is_asked_again(embeddings: Double, warehouse: Warehouse) -> None:
    def script(number: int, body: Body) -> Answer:
        faults = [refuses(500, "oops"), refuses(429, "slow"), (200, {"data": []}), (200, {"data": [{}] * 150})]
        return faults[number] if number < len(faults) else good(body)

    embeddings.script = script
    made = embed(replace(embeddings.endpoint, max_concurrency=1), TEXTS, warehouse)
    assert np.array_equal(made.vectors, [vector(text) for text in TEXTS])


def test_a_server_that_only_sends_rubbish_is_given_up_with_its_sentence(
    embeddings: Double, warehouse: Warehouse
) -> None:
    embeddings.script = lambda _, body: (200, {"data": [{"embedding": [1.0, 2.0]} for _ in body["input"][1:]]})
    with pytest.raises(LlmError, match="sent 2 embeddings for 3 texts"):
        embed(embeddings.endpoint, ["a", "b", "c"], warehouse)


def test_a_model_that_changes_its_dimension_is_refused(embeddings: Double, warehouse: Warehouse) -> None:
    embed(embeddings.endpoint, ["a"], warehouse)
    embeddings.script = lambda _, body: (200, {"data": [{"embedding": [1.0, 2.0]} for _ in body["input"]]})
    with pytest.raises(EndpointUnsupported, match="embeds with 2 dimensions now, and did with 6 before"):
        embed(embeddings.endpoint, ["a", "b"], warehouse)


def test_the_bill_is_the_runs(embeddings: Double, warehouse: Warehouse, run_id: str) -> None:
    account = Account(run_id, STEP, 0)
    batches.record(warehouse, account, "texts", 150, Standing("running"))
    endpoint = replace(embeddings.endpoint, **PRICED).for_embedding()
    made = embed(endpoint, TEXTS, warehouse, account)
    tokens = sum(map(len, TEXTS))
    assert made.tokens == tokens and made.cost == pytest.approx(tokens * 10 / 1e6)
    bill = batches.bill(warehouse, account)
    assert (bill.calls, bill.prompt_tokens, bill.completion_tokens) == (made.calls, tokens, 0)
    assert bill.cost == pytest.approx(made.cost)
    assert runs.spending(warehouse, run_id)[0] == pytest.approx(made.cost)


def test_a_budget_is_kept(embeddings: Double, warehouse: Warehouse) -> None:
    runs.create(warehouse, "r1", "tiny", {}, budget=0.012)
    account = Account("r1", STEP, 0)
    batches.record(warehouse, account, "texts", 150, Standing("running"))
    endpoint = replace(embeddings.endpoint, max_concurrency=1, **PRICED).for_embedding()
    with pytest.raises(LlmError, match=r"`llmser budget r1 AMOUNT` raises it"):
        embed(endpoint, TEXTS, warehouse, account)
    spent = runs.spending(warehouse, "r1")[0]
    assert 0 < spent <= 0.012
    assert len(ledger.settled(warehouse, [fanout.key(endpoint, text) for text in TEXTS])) == len(embeddings.texts)


def test_a_budget_needs_a_price(embeddings: Double, warehouse: Warehouse) -> None:
    runs.create(warehouse, "r1", "tiny", {}, budget=1.0)
    batches.record(warehouse, Account("r1", STEP, 0), "texts", 1, Standing("running"))
    with pytest.raises(InputError, match="nobody knows what the model double costs"):
        embed(embeddings.endpoint, ["a"], warehouse, Account("r1", STEP, 0))
    assert not embeddings.asked


def test_the_estimate_counts_what_is_left(embeddings: Double, warehouse: Warehouse) -> None:
    endpoint = replace(embeddings.endpoint, requests_per_minute=60, **PRICED).for_embedding()
    before = estimate(endpoint, [*TEXTS, *TEXTS], warehouse, STEP)
    size = sum(map(len, TEXTS))
    assert (before.users, before.questions, before.answered, before.calls) == (300, 150, 0, 3)
    assert before.prompt_tokens == round(size / 4) and before.cost == pytest.approx(before.prompt_tokens * 10 / 1e6)
    assert before.hours == pytest.approx(3 / 3600)
    embed(embeddings.endpoint, TEXTS[:100], warehouse)
    after = estimate(endpoint, TEXTS, warehouse, STEP)
    assert (after.answered, after.calls) == (100, 1)
    assert after.prompt_tokens == sum(map(len, TEXTS[100:])), "the server counts a token a character, as is known now"


def test_side_by_side_they_pay_once(embeddings: Double, warehouse: Warehouse) -> None:
    made: list[fanout.Vectors] = []
    workers = [
        threading.Thread(target=lambda: made.append(embed(embeddings.endpoint, TEXTS, warehouse))) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 2 and np.array_equal(made[0].vectors, made[1].vectors)
    assert sorted(embeddings.texts) == sorted(TEXTS)


KILLED = """
import json, sys
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.embedding import fanout
from llmser_tasks.llm.endpoint import Endpoint
url, warehouse, texts = json.loads(sys.argv[1])
fanout.embed(Endpoint("double", url, "double", max_concurrency=1), texts, Warehouse(warehouse), "item-vectors")
"""


def test_a_killed_run_does_not_pay_twice(embeddings: Double, warehouse: Warehouse, tmp_path: Path) -> None:
    stuck = threading.Event()

    def script(number: int, body: Body) -> Answer:
        if number == 2:
            stuck.wait(60)
        return good(body)

    embeddings.script = script
    given = json.dumps([embeddings.endpoint.url, warehouse.url, TEXTS])
    worker = subprocess.Popen([sys.executable, "-c", KILLED, given])
    until(lambda: len(embeddings.asked) == 3 or worker.poll() is not None)
    worker.kill()
    worker.wait()
    paid = [text for body in embeddings.asked[:2] for text in body["input"]]
    stuck.set()
    embeddings.asked.clear()
    made = embed(embeddings.endpoint, TEXTS, warehouse)
    assert np.array_equal(made.vectors, [vector(text) for text in TEXTS])
    assert len(paid) == 2 * fanout.TEXTS and not set(paid) & set(embeddings.texts)
