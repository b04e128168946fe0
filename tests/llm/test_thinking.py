"""Models that think before they answer: where their answer is read, what is a draft, and how much room they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from llm_double import Act, Double, first_choices, says
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import dialects
from llmser_tasks.llm.answers import PickAnswer, parse
from llmser_tasks.llm.dialects import MOST_ROOM, Dialect, dialect_of
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import NoRoom
from llmser_tasks.llm.fleet import fanout
from llmser_tasks.llm.fleet.budget import BudgetSpent
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import batches, runs

Make = Callable[..., list[PickQuestion]]
THOUGHT = {"prompt_tokens": 100, "completion_tokens": 70, "total_tokens": 170}
DRAFTS = [
    '[THINK]maybe {"picks": ["c03", "c04"]} but no, those are wrong, let me',
    '<thinking>maybe {"picks": ["c03", "c04"]}',
    "◁think▷c03",
    '<|channel|>analysis<|message|>{"picks": ["c03"]}',
    'Let us see. {"picks": ["c03", "c04"]} would be too easy, so',
    'The user likes hats, so a draft: {"picks": ["c03", "c04',
    'The user likes hats, so a draft: {"picks": ["c03", "c04"]}',
]
LAST_WORDS = [
    '{"picks": ["c03", "c04"',
    '{"picks": ["c03", "c04"]}',
    'Here is the answer: {"picks": ["c03", "c04',
    '```json\n{"picks": ["c03", "c04',
    '<think>c01?</think>{"picks": ["c03", "c04',
]


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
@pytest.mark.parametrize("reply", DRAFTS)
def test_a_draft_that_was_cut_off_is_no_answer(reply: str, finish: str, questions: Make) -> None:
    assert parse(reply, questions(1)[0], finish).chosen == ()


@pytest.mark.parametrize("reply", LAST_WORDS)
def test_an_answer_that_was_cut_off_is_read(reply: str, questions: Make) -> None:
    assert [pick.index + 1 for pick in parse(reply, questions(1)[0], "length").chosen] == [3, 4]


def test_an_answer_behind_long_thinking_is_found(questions: Make) -> None:
    reply = "<think>" + "c01 or c03? " * 10_000 + '</think>{"picks": ["c02"]}'
    assert [pick.index + 1 for pick in parse(reply, questions(1)[0]).chosen] == [2]


def _thinks(needs: int, message: dict[str, Any] | None = None) -> Callable[[int, dict[str, Any]], Act]:
    """Answers where it may use so many tokens."""
    unfinished = says(None, "length", THOUGHT, **(message or {"reasoning": "Let me see"}))
    return lambda _, body: unfinished if body["max_tokens"] < needs else first_choices(body)


def test_the_room_that_suffices_is_found_once_and_remembered_for_every_process(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.script = _thinks(3000)
    outcomes = fanout.answer(endpoint, questions(30), warehouse)
    assert outcomes.unanswered == 0
    assert outcomes.calls <= 30 + endpoint.max_concurrency + 2  # those that began together, and one that found out
    assert dialect_of(endpoint) == Dialect(room=4096)
    dialects.known.clear()
    assert fanout.answer(endpoint, questions(10, first=30), warehouse).calls == 10
    other = replace(endpoint, extra_body={"reasoning_effort": "none"})  # may need none of it
    assert dialects.recall(other, warehouse) is None


def test_thinking_without_end_is_told_after_few_requests(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.script = _thinks(10**9)
    outcomes = fanout.answer(endpoint, questions(100), warehouse)
    assert isinstance(outcomes.fatal, NoRoom) and outcomes.unanswered == 100
    said = str(outcomes.fatal)
    assert "finish_reason length before it answered" in said and f"{MOST_ROOM:,} tokens" in said
    assert "raise max_tokens in the extra of the connection double" in said and "reasoning_effort" in said
    assert outcomes.calls <= endpoint.max_concurrency + 3


def test_a_fixed_max_tokens_is_kept_and_named(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.script = _thinks(3000)
    fixed = replace(endpoint, max_tokens=2000)
    outcomes = fanout.answer(fixed, questions(100), warehouse)
    assert isinstance(outcomes.fatal, NoRoom) and "2,000 tokens are the most" in str(outcomes.fatal)
    assert {body["max_tokens"] for body in double.bodies} == {2000} and outcomes.calls < 30
    more = replace(endpoint, max_tokens=3000)
    assert fanout.answer(more, questions(100), warehouse).unanswered == 0


def test_what_a_fixed_max_tokens_cuts_off_stays_open_and_costs_nobody_else_anything(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    def script(_: int, body: dict[str, Any]) -> Act:
        long = json.loads(body["messages"][-1]["content"])["history"][0] in {"thing 7", "thing 8"}
        return _thinks(3000)(0, body) if long else first_choices(body)

    double.script = script
    fixed = replace(endpoint, max_tokens=2000)
    outcomes = fanout.answer(fixed, questions(20), warehouse)
    assert outcomes.unanswered == 2 and "2 × cut off" in str(outcomes.complaint())
    assert "raise max_tokens" in str(outcomes.complaint()) and outcomes.calls == 22 - 2
    again = fanout.answer(replace(endpoint, max_tokens=3000), questions(20), warehouse)
    assert (again.unanswered, again.calls) == (0, 2)  # the limit is no part of a question's key


def test_one_question_that_finds_no_end_is_settled_where_others_have_room_enough(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    rambles = says("c01 or not c01, " * 10, "length", THOUGHT)

    def script(_: int, body: dict[str, Any]) -> Act:
        return rambles if "thing 15" in body["messages"][-1]["content"] else first_choices(body)

    double.script = script
    priced = replace(endpoint, price_per_million_prompt=1.0, price_per_million_completion=10.0)
    runs.create(warehouse, "r", "beauty", {})
    account = batches.Account("r", "snf", 0)
    batches.record(warehouse, batches.Account("r", "snf", 0), "users", 20, batches.Standing("running"))
    outcomes = fanout.answer(replace(priced, max_concurrency=1), questions(20), warehouse, account=account)
    settled = outcomes.results[15]
    assert isinstance(settled, PickAnswer) and settled.finish_reason == "length" and outcomes.calls == 22
    assert dialect_of(endpoint) == Dialect()  # the others are not asked for more
    with transaction(warehouse) as connection:
        lost, cost = connection.execute(text("select lost, cost from batches")).one()
    assert lost == pytest.approx(3 * (100 * 1 + 70 * 10) / 1e6)  # each of its three replies counts once
    assert cost == pytest.approx(19 * (100 * 1 + 10 * 10) / 1e6)


def test_a_prompt_that_leaves_less_room_is_asked_with_less(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    too_long = Act(400, {"error": {"code": "context_length_exceeded", "message": "maximum context length is 4096"}})

    def script(_: int, body: dict[str, Any]) -> Act:
        if "thing 5" in body["messages"][-1]["content"] and body["max_tokens"] > 1000:
            return too_long
        return _thinks(3000 if "thing 5" not in body["messages"][-1]["content"] else 400)(0, body)

    double.script = script
    outcomes = fanout.answer(replace(endpoint, max_concurrency=1), questions(10), warehouse)
    assert all(isinstance(outcome, PickAnswer) for outcome in outcomes) and outcomes.calls <= 15
    assert dialect_of(endpoint) == Dialect(room=4096)


def test_thinking_is_paid_for_and_held_for(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    runs.create(warehouse, "r", "beauty", {}, budget=0.02)
    batches.record(warehouse, batches.Account("r", "snf", 0), "users", 20, batches.Standing("running"))
    double.script = _thinks(1000)
    endpoint = replace(
        endpoint, price_per_million_prompt=1.0, price_per_million_completion=100.0, max_concurrency=1, max_tokens=1000
    )
    outcomes = fanout.answer(endpoint, questions(1), warehouse, account=batches.Account("r", "snf", 0))
    assert isinstance(outcomes.fatal, BudgetSpent) and double.bodies == []  # 1,000 tokens may cost 0.1


def test_thinking_that_stands_in_the_total_alone_counts(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 900}  # Gemini's, xAI's
    double.plays(says('{"picks": ["c01"]}', usage=usage))
    outcomes = fanout.answer(endpoint, questions(1), warehouse)
    assert (outcomes.prompt_tokens, outcomes.completion_tokens) == (100, 800)


def test_all_that_a_server_refuses_at_once_is_solved_in_few_requests_and_for_good(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    ours = ("max_tokens", "max_completion_tokens", "temperature", "response_format")

    def script(_: int, body: dict[str, Any]) -> Act:
        sent = next((name for name in ours if name in body), None)
        error = {"message": f"Unrecognized request argument supplied: {sent}", "type": "invalid_request_error"}
        return Act(400, {"error": error}) if sent else first_choices(body)

    double.script = script
    outcomes = fanout.answer(endpoint, questions(40), warehouse)
    assert outcomes.unanswered == 0 and outcomes.calls <= 40 + endpoint.max_concurrency + 6
    assert dialect_of(endpoint) == Dialect("plain", "", temperature=False)
    dialects.known.clear()
    assert fanout.answer(endpoint, questions(40, first=40), warehouse).calls == 40


def test_an_endpoint_that_refuses_every_form_is_told_once(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    message = "No endpoints found that can handle the requested parameters."
    double.plays(Act(404, {"error": {"message": message, "code": 404}}))
    outcomes = fanout.answer(endpoint, questions(100), warehouse)
    said = str(outcomes.fatal)
    assert message.rstrip(".") in said and "refuses all" in said and "extra_body" in said
    assert "its URL" not in said and "serves the model" not in said  # neither is to blame
    assert outcomes.calls <= endpoint.max_concurrency + 6


def test_what_is_kept_of_an_odd_row_is_not_believed(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    place = dialects.place_of(endpoint)
    for odd in ('{"colour": "red"}', "[]", '{"room": -1}', '{"length": "; drop"}', '{"response_format": 3}'):
        with transaction(warehouse) as connection:
            connection.execute(
                text(
                    "insert into endpoint_dialects values (:place, 'u', 'm', cast(:odd as jsonb))"
                    " on conflict (place) do update set dialect = excluded.dialect"
                ),
                {"place": place, "odd": odd},
            )
        assert dialects.recall(endpoint, warehouse) is None
    (outcome,) = fanout.answer(endpoint, questions(1), warehouse)
    assert not isinstance(outcome, Failure)
