"""The Batch API behind the ledger, over real HTTP: nothing is submitted twice, whatever breaks in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import provider_batch
import pytest
from served_ranker import ranker
from sqlalchemy import text

from llmser_tasks.core.errors import InputError, Waiting
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import dialects
from llmser_tasks.llm.answers import PickAnswer
from llmser_tasks.llm.batch_api import provider_batches
from llmser_tasks.llm.batch_api.wire import BatchApi
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointFatal, KeyRefused
from llmser_tasks.llm.fleet.budget import BudgetSpent
from llmser_tasks.llm.outcomes import Failure, Outcomes
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import batches, runs

Make = Callable[..., list[PickQuestion]]
ONE, TWO = batches.Account("r", "snf", 0), batches.Account("r", "snf", 1)


@pytest.fixture
def provider() -> Iterator[httpx.Client]:
    dialects.known.clear()
    with ranker("batch_seconds=0.3") as served:
        yield served


@pytest.fixture
def endpoint(provider: httpx.Client) -> Endpoint:
    return Endpoint(
        "provider",
        f"{str(provider.base_url).rstrip('/')}/v1",
        "embedding-ranker",
        price_per_million_prompt=1.0,
        price_per_million_completion=1.0,
    )


@pytest.fixture
def warehouse(warehouse: Warehouse) -> Warehouse:
    runs.create(warehouse, "r", "beauty", {})
    for batch in (0, 1):
        batches.record(warehouse, batches.Account("r", "snf", batch), "users", 10, batches.Standing("running"))
    return warehouse


def finish(
    endpoint: Endpoint, questions: list[PickQuestion], warehouse: Warehouse, account: batches.Account = ONE
) -> Outcomes:
    return provider_batch.finish(endpoint, questions, warehouse, account)


def listed(provider: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = provider.get("/v1/batches").json()["data"]
    return found


def rows(warehouse: Warehouse, query: str) -> list[dict[str, Any]]:
    with transaction(warehouse) as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def test_questions_go_out_once_and_answers_come_into_the_ledger(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse
) -> None:
    asked = questions(40)
    with pytest.raises(Waiting, match=r"1 of 40 questions are answered; batch batch_\w+ is at work") as waiting:
        provider_batches.answer(endpoint, asked, warehouse, account=ONE)
    for _ in range(3):  # a retry, a cleared task: they find the batch
        with pytest.raises(Waiting) as again:
            provider_batches.answer(endpoint, asked, warehouse, account=ONE)
        assert again.value.on == waiting.value.on == (listed(provider)[0]["id"],)
    outcomes = finish(endpoint, asked, warehouse)
    assert all(isinstance(outcome, PickAnswer) for outcome in outcomes) and outcomes.unanswered == 0
    assert len(listed(provider)) == 1 and listed(provider)[0]["request_counts"]["total"] == 39  # one told the dialect
    assert provider.get("/stats").json()["calls"] == 40
    (bill,) = rows(warehouse, "select calls, cost, held from batches where batch = 0")
    prompt, completion, cost = (
        rows(warehouse, "select sum(prompt_tokens) p, sum(completion_tokens) c, sum(cost) s from answers")[0][name]
        for name in "pcs"
    )
    assert bill["calls"] == 40 and bill["cost"] == pytest.approx(cost)
    assert 0.5 * (prompt + completion) / 1e6 < cost < 0.55 * (prompt + completion) / 1e6  # half price but for one
    assert {row["run_id"] for row in rows(warehouse, "select run_id from answers")} == {"r"}
    assert rows(warehouse, "select state, outcome, held from provider_batches") == [
        {"state": "ended", "outcome": "completed", "held": 0}
    ]
    assert rows(warehouse, "select * from provider_questions") == []
    assert provider_batches.answer(endpoint, asked, warehouse, account=TWO).unanswered == 0
    assert len(listed(provider)) == 1


def test_the_answers_are_those_of_single_calls(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse
) -> None:
    from llmser_tasks.llm.fleet import fanout

    asked = questions(12)
    first = [answer.content for answer in finish(endpoint, asked, warehouse) if isinstance(answer, PickAnswer)]
    other = replace(endpoint, model="embedding-ranker-again")  # another key in the ledger
    second = [answer.content for answer in fanout.answer(other, asked, warehouse) if isinstance(answer, PickAnswer)]
    assert first == second and len(first) == 12


def test_tasks_that_share_questions_submit_them_once(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse
) -> None:
    with pytest.raises(Waiting):
        provider_batches.answer(endpoint, questions(30), warehouse, account=ONE)
    with pytest.raises(Waiting):
        provider_batches.answer(endpoint, questions(30, first=10), warehouse, account=TWO)
    with pytest.raises(Waiting, match="of another task"):
        provider_batches.answer(endpoint, questions(10, first=15), warehouse, account=replace(TWO, step="reason"))
    outcomes = finish(endpoint, questions(30, first=10), warehouse, TWO)  # the first never comes back for its own
    assert outcomes.unanswered == 0
    assert sum(batch["request_counts"]["total"] for batch in listed(provider)) == 39
    assert provider.get("/stats").json()["calls"] == 40


BREAKS = ["before the upload", "after the upload", "after the creation", "before the answers are written"]


@pytest.mark.parametrize("where", BREAKS)
def test_broken_off_anywhere_it_is_submitted_once(
    where: str,
    endpoint: Endpoint,
    provider: httpx.Client,
    questions: Make,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    upload, create = BatchApi.upload, BatchApi.create

    def uploads_and_dies(api: BatchApi, lines: bytes) -> str:
        upload(api, lines)
        raise Killed

    def creates_and_dies(api: BatchApi, file: str, mark: str) -> str:
        create(api, file, mark)
        raise Killed

    with monkeypatch.context() as patch:
        if where == "before the upload":
            patch.setattr(BatchApi, "upload", dies)
        elif where == "after the upload":
            patch.setattr(BatchApi, "upload", uploads_and_dies)
        elif where == "after the creation":
            patch.setattr(BatchApi, "create", creates_and_dies)
        else:
            patch.setattr(provider_batches.ledger, "write", dies)
            patch.setattr(provider_batches, "_learn_dialect", lambda *_: None)
        with pytest.raises(Killed):
            finish(endpoint, questions(20), warehouse)
    assert finish(endpoint, questions(20), warehouse).unanswered == 0
    assert len(listed(provider)) == 1
    assert rows(warehouse, "select count(*) as n from answers") == [{"n": 20}]


def test_what_a_batch_leaves_open_is_asked_by_the_next(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse
) -> None:
    assert provider.post("/faults", json={"spec": "batch_seconds=0,batch_expired=0.3,429=0.2,filtered=0.2"}).is_success
    first = finish(endpoint, questions(60), warehouse)
    kinds = {outcome.kind for outcome in first if isinstance(outcome, Failure)}
    assert {"expired", "rate limit", "content-filter"} <= kinds
    assert 5 < first.unanswered < 50 and "a rerun asks only for these" in str(first.complaint())
    assert provider.post("/faults", json={"spec": "batch_seconds=0"}).is_success
    second = finish(endpoint, questions(60), warehouse)
    assert second.unanswered == 0
    total = [batch["request_counts"]["total"] for batch in listed(provider)]
    assert total[0] == first.unanswered and len(total) == 2


def test_lines_that_come_twice_or_are_not_ours_change_nothing(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = BatchApi.lines

    def twisted(api: BatchApi, file: Any, questions: int) -> Iterator[dict[str, Any]]:
        for line in lines(api, file, questions):
            yield line | {"custom_id": "somebody-elses"}
            yield {name: value for name, value in line.items() if name != "custom_id"}
            yield line | {"custom_id": [line["custom_id"]]}
            yield line
            yield line | {"response": {"status_code": 500, "body": "changed its mind"}}
            yield line | {"response": line["response"] | {"body": {"choices": []}}}

    monkeypatch.setattr(BatchApi, "lines", twisted)
    assert finish(endpoint, questions(20), warehouse).unanswered == 0
    assert rows(warehouse, "select calls from batches where batch = 0") == [{"calls": 20}]
    assert rows(warehouse, "select count(*) as n from answers") == [{"n": 20}]


def test_a_line_that_nests_deeper_than_json_is_written_is_one_question_without_answer(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = BatchApi.lines
    deep: Any = []
    for _ in range(900):
        deep = [deep]

    def first_is_deep(api: BatchApi, file: Any, questions: int) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines(api, file, questions)):
            yield line if number else line | {"response": {"status_code": 200, "body": deep}}

    monkeypatch.setattr(BatchApi, "lines", first_is_deep)
    outcomes = finish(endpoint, questions(20), warehouse)
    assert outcomes.unanswered == 1 and {one.kind for one in outcomes if isinstance(one, Failure)} == {"server error"}


def test_a_refused_file_is_told_and_can_be_tried_again(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchApi, "chat_path", "/v1/elsewhere")
        patch.setattr(BatchApi, "create", lambda api, file, mark: _create_as_chat(api, file, mark))
        with pytest.raises(EndpointFatal, match="method, url or custom_id"):
            finish(endpoint, questions(5), warehouse)
    assert finish(endpoint, questions(5), warehouse).unanswered == 0


def _create_as_chat(api: BatchApi, file: str, mark: str) -> str:
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "metadata": {"llmser": mark}}
    return str(api._json("POST", "batches", asked)["id"])


def test_a_budget_is_held_for_the_whole_batch_before_it_goes_out(
    endpoint: Endpoint, provider: httpx.Client, questions: Make, warehouse: Warehouse
) -> None:
    runs.set_budget(warehouse, "r", 0.0005)
    with pytest.raises(BudgetSpent, match="llmser budget r AMOUNT"):
        finish(endpoint, questions(50), warehouse)
    assert listed(provider) == [] and rows(warehouse, "select * from provider_batches") == []
    runs.set_budget(warehouse, "r", 1.0)
    with pytest.raises(Waiting):
        provider_batches.answer(endpoint, questions(50), warehouse, account=ONE)
    (held,) = rows(warehouse, "select held from provider_batches")
    assert 0 < held["held"] < 0.1
    runs.set_budget(warehouse, "r", held["held"] * 1.1)
    with pytest.raises(BudgetSpent):  # what is under way counts
        provider_batches.answer(endpoint, questions(50, first=100), warehouse, account=TWO)
    assert finish(endpoint, questions(50), warehouse).unanswered == 0


def test_a_key_that_is_refused_is_told_before_anything_is_uploaded(questions: Make, warehouse: Warehouse) -> None:
    dialects.known.clear()
    with ranker(key="right") as served:
        endpoint = Endpoint("provider", f"{str(served.base_url).rstrip('/')}/v1", "m", key="wrong-key")
        with pytest.raises(KeyRefused) as refused:
            provider_batches.answer(endpoint, questions(5), warehouse, account=ONE)
        assert "wrong-key" not in str(refused.value)
    assert rows(warehouse, "select * from provider_batches") == []


def test_more_than_providers_take_is_refused(
    endpoint: Endpoint, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_batches, "MOST_QUESTIONS", 10)
    with pytest.raises(InputError, match="lower users_per_batch"):
        finish(endpoint, questions(20), warehouse)
    assert rows(warehouse, "select * from provider_questions") == []
