"""Every example of what servers say, played to the online client and to the Batch API; see `server_examples`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import provider_batch
import pytest
from llm_double import Act, Double, first_choices
from patience import until
from server_examples import Example, examples
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import client, dialects, error_responses, errors
from llmser_tasks.llm.answers import PickAnswer, parse
from llmser_tasks.llm.batch_api.lines import ROUNDS
from llmser_tasks.llm.dialects import Dialect, dialect_of, place_of
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import CLASS_OF, classify
from llmser_tasks.llm.errors import EndpointFatal, LlmError
from llmser_tasks.llm.fleet import fanout
from llmser_tasks.llm.outcomes import Failure, Outcomes
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.llm.replies import cut_off, is_lost, read_reply
from llmser_tasks.llm.server_cases import FOLLOWS, Case, refusals
from llmser_tasks.llm.server_cases.finishes import FINISHES
from llmser_tasks.llm.server_cases.refusals import REFUSALS
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import batches, runs

Make = Callable[..., list[PickQuestion]]
EXAMPLES = examples()
OF: dict[Case, list[Example]] = defaultdict(list)
for _example in EXAMPLES:
    OF[_example.case].append(_example)
KIND = {Case.NO_ANSWER: "server error"}  # as which it is counted while it may still pass
FATAL = (Case.KEY, Case.QUOTA, Case.UNSUPPORTED)
PASSING = (Case.RATE_LIMIT, Case.SERVER_ERROR, Case.TIMEOUT, Case.NO_ANSWER)
SETTLED = (Case.FILTERED, Case.TOO_LONG)
ACCOUNT = batches.Account("r", "snf", 0)


def _raw(example: Example) -> bytes:
    return example.body if isinstance(example.body, bytes) else json.dumps(example.body).encode()


def _act(example: Example) -> Act:
    return Act(status=example.status, body=example.body)


def _thing(body: dict[str, Any]) -> int:
    """Number of the question, from its history."""
    return int(json.loads(body["messages"][-1]["content"])["history"][0].split()[1])


def _plays(double: Double, shown: list[Example], first: int = 0) -> None:
    """To question number `first + i` always example i; the others are answered."""

    def script(_: int, body: dict[str, Any]) -> Act:
        place = _thing(body) - first
        return _act(shown[place]) if 0 <= place < len(shown) else first_choices(body)

    double.script = script


def test_every_case_says_what_follows() -> None:
    assert set(FOLLOWS) == set(Case)


def test_every_row_has_an_example(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    used: list[refusals.Refusal] = []
    asked = refusals.refused

    def noted(*said: Any) -> refusals.Refusal:
        used.append(asked(*said))
        return used[-1]

    monkeypatch.setattr(error_responses, "refused", noted)
    for example in EXAMPLES:
        if example.status != 200:
            classify(endpoint, example.status, {}, _raw(example))
    without = [row for row in REFUSALS if row not in used]
    assert without == []
    words = {
        example.body["choices"][0]["finish_reason"]
        for example in EXAMPLES
        if isinstance(example.body, dict) and example.body.get("choices")
    }
    assert {word for finish in FINISHES for word in finish.words.split()} <= words


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.server} {example.case.value}")
def test_a_response_means_what_the_table_says(example: Example, endpoint: Endpoint, questions: Make) -> None:
    (question,) = questions(1)
    try:
        if example.status != 200:
            raise classify(endpoint, example.status, {}, _raw(example))
        reply = read_reply(endpoint, {}, _raw(example), 1, 1, 1)
        if is_lost(reply, question):
            raise cut_off(endpoint, reply)
    except LlmError as error:
        assert type(error) is CLASS_OF[example.case], str(error)
        assert "double" in str(error)
    else:
        picks = [f"c{pick.index + 1:02d}" for pick in parse(reply.content, question, reply.finish_reason).chosen]
        assert (example.case, tuple(picks)) == (Case.ANSWER, example.picks)


# Online


def test_answers_are_read_wherever_they_are_put(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    shown, asked = OF[Case.ANSWER], questions(len(OF[Case.ANSWER]))
    _plays(double, shown)
    outcomes = fanout.answer(endpoint, asked, warehouse)
    for example, outcome in zip(shown, outcomes, strict=True):
        assert isinstance(outcome, PickAnswer), (example.server, outcome)
        picks = [f"c{pick.index + 1:02d}" for pick in outcome.chosen]
        assert tuple(picks) == example.picks, example.server
    assert outcomes.calls == len(shown)


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_asked_again(
    case: Case, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    shown, seen = OF[case], defaultdict[int, int](int)

    def script(_: int, body: dict[str, Any]) -> Act:
        seen[_thing(body)] += 1
        return _act(shown[_thing(body)]) if seen[_thing(body)] < 3 else first_choices(body)

    double.script = script
    outcomes = fanout.answer(endpoint, questions(len(shown)), warehouse)
    assert all(isinstance(outcome, PickAnswer) for outcome in outcomes)
    assert outcomes.calls == 3 * len(shown)


def test_what_never_answers_is_settled_after_several_where_others_are_answered(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    shown = OF[Case.NO_ANSWER]
    _plays(double, shown)
    silent, rounds = questions(len(shown)), count(1)
    endpoint = replace(endpoint, max_concurrency=4 * len(shown))

    def ask() -> Outcomes:
        others = questions(3 * len(shown), first=1000 * next(rounds))
        return fanout.answer(endpoint, [*silent, *others], warehouse)

    outcomes = ask()
    assert outcomes.calls == 3 * len(shown) + client.ATTEMPTS * len(shown)
    last = [outcomes]

    def settled() -> bool:
        if last[-1].unanswered:  # those that saw no other question answered are asked again
            last.append(ask())
        return last[-1].unanswered == 0

    until(settled)
    failures = [outcome for outcome in last[-1] if isinstance(outcome, Failure)]
    assert len(failures) == len(shown) and {one.kind for one in failures} == {"no answer"}
    assert not any(one.retriable for one in failures) and last[-1].complaint() is None
    double.reset()
    assert fanout.answer(endpoint, silent, warehouse).calls == 0


def test_an_endpoint_that_answers_nobody_leaves_all_questions_open(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    shown = OF[Case.NO_ANSWER]
    _plays(double, shown)
    outcomes = fanout.answer(replace(endpoint, max_concurrency=1), questions(5), warehouse)
    assert outcomes.unanswered == 5 and "server error" in str(outcomes.complaint())
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select count(*) from answers")) == 0


@pytest.mark.parametrize("case", SETTLED)
def test_what_will_never_be_answered_is_settled_at_once(
    case: Case, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    _plays(double, OF[case])
    outcomes = fanout.answer(endpoint, questions(len(OF[case]) + 5), warehouse)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert len(failures) == len(OF[case]) and {one.kind for one in failures} == {case.value}
    assert not any(one.retriable for one in failures) and outcomes.calls == len(OF[case]) + 5


@pytest.mark.parametrize("case", FATAL)
def test_what_a_person_must_mend_stops_the_batch(
    case: Case, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    for number, example in enumerate(OF[case]):
        double.reset()
        dialects.known.clear()
        double.plays(_act(example))
        outcomes = fanout.answer(endpoint, questions(20, first=20 * number), warehouse)
        assert type(outcomes.fatal) is CLASS_OF[case], example
        assert outcomes.calls <= endpoint.max_concurrency


def test_thinking_gets_room_until_it_answers(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    for number, example in enumerate(OF[Case.CUT_OFF]):
        double.reset()
        dialects.known.clear()
        double.script = lambda _, body, said=example: _act(said) if body["max_tokens"] < 4096 else first_choices(body)
        outcomes = fanout.answer(replace(endpoint, max_concurrency=1, model=f"m{number}"), questions(3), warehouse)
        assert all(isinstance(outcome, PickAnswer) for outcome in outcomes), example
        assert [body["max_tokens"] for body in double.bodies] == [72, 1024, 4096, 4096, 4096]


@pytest.mark.parametrize("example", OF[Case.FORM], ids=lambda example: example.server)
def test_another_form_is_found_and_remembered_for_all(
    example: Example, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    said = json.dumps(example.body)
    named = refusals.named_parameters(said) or {"temperature"}

    def script(_: int, body: dict[str, Any]) -> Act:
        return _act(example) if named & body.keys() else first_choices(body)

    double.script = script
    outcomes = fanout.answer(endpoint, questions(20), warehouse)
    assert outcomes.unanswered == 0
    assert outcomes.calls <= 20 + endpoint.max_concurrency + 3
    dialects.known.clear()  # another process
    assert fanout.answer(endpoint, questions(20, first=20), warehouse).calls == 20


@pytest.mark.parametrize("example", OF[Case.LENGTH], ids=lambda example: example.server)
def test_room_that_is_refused_is_not_the_questions_fault(
    example: Example, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    thinks = OF[Case.CUT_OFF][0]

    def script(_: int, body: dict[str, Any]) -> Act:
        if body["max_tokens"] > 3000:
            return _act(example)
        return _act(thinks) if body["max_tokens"] < 2000 else first_choices(body)

    double.script = script
    outcomes = fanout.answer(replace(endpoint, max_concurrency=1), questions(3), warehouse)
    assert outcomes.unanswered == 0 and outcomes.calls <= 7
    double.reset()
    dialects.known.clear()
    double.plays(_act(example))
    fixed = replace(endpoint, max_tokens=50_000)
    outcomes = fanout.answer(fixed, questions(30, first=10), warehouse)
    assert isinstance(outcomes.fatal, errors.EndpointUnsupported) and "Lower max_tokens" in str(outcomes.fatal)
    assert "50,000" in str(outcomes.fatal) and outcomes.calls <= endpoint.max_concurrency


# Batches


@pytest.fixture
def run(warehouse: Warehouse) -> Warehouse:
    runs.create(warehouse, "r", "beauty", {})
    batches.record(warehouse, batches.Account("r", "snf", 0), "users", 10, batches.Standing("running"))
    return warehouse


def _finish(endpoint: Endpoint, asked: list[PickQuestion], warehouse: Warehouse) -> Outcomes:
    """One round: what it leaves open is asked by the next."""
    dialects.known.setdefault(place_of(endpoint), Dialect())  # or the first question is asked alone
    return provider_batch.finish(endpoint, asked, warehouse, ACCOUNT)


@pytest.mark.parametrize("case", list(Case))
def test_a_batchs_lines_mean_the_same(
    case: Case, endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    shown = [example for example in OF[case] if not example.not_in_a_batch]
    assert shown and all(example.not_in_a_batch for example in OF[case] if isinstance(example.body, bytes))
    _plays(double, shown)
    asked = questions(len(shown) + 2)
    outcomes = _finish(endpoint, asked, run)
    assert len(double.times) == 0 and all(isinstance(outcome, PickAnswer) for outcome in outcomes.results[-2:])
    for example, outcome in zip(shown, outcomes, strict=False):
        if case is Case.ANSWER:
            assert isinstance(outcome, PickAnswer), example
            picks = [f"c{pick.index + 1:02d}" for pick in outcome.chosen]
            assert tuple(picks) == example.picks, example
        else:
            assert isinstance(outcome, Failure), example
            assert (outcome.kind, outcome.retriable) == (KIND.get(case, case.value), case not in SETTLED), example
    if case in FATAL:
        assert type(outcomes.fatal) is CLASS_OF[case]
    else:
        assert outcomes.fatal is None


def test_batches_settle_what_stays_silent_after_several(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    _plays(double, OF[Case.NO_ANSWER])
    silent = questions(len(OF[Case.NO_ANSWER]))
    for number in range(ROUNDS):
        outcomes = _finish(endpoint, [*silent, *questions(2, first=100 + 2 * number)], run)
        assert outcomes.unanswered == (len(silent) if number < ROUNDS - 1 else 0)
    assert {one.kind for one in outcomes if isinstance(one, Failure)} == {"no answer"}
    with transaction(run) as connection:
        assert connection.scalar(text("select count(*) from unanswered_questions")) == 0


def test_the_next_batch_gives_thinking_more_room(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    example = OF[Case.CUT_OFF][0]
    endpoint = replace(endpoint, price_per_million_prompt=1.0, price_per_million_completion=10.0)
    double.script = lambda _, body: _act(example) if body["max_tokens"] < 4096 else first_choices(body)
    assert [_finish(endpoint, questions(3), run).unanswered for _ in range(3)] == [3, 3, 0]
    assert {body["max_tokens"] for body in double.bodies} == {72, 1024, 4096}
    with transaction(run) as connection:
        lost = connection.scalar(text("select lost from batches"))
    assert lost == pytest.approx(6 * 0.5 * (100 * 1 + 72 * 10) / 1e6)  # paid in vain, at a batch's price


def test_the_next_batch_asks_in_another_form(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    example = next(one for one in OF[Case.FORM] if one.server == "Mistral, pydantic")
    double.script = lambda _, body: _act(example) if "temperature" in body else first_choices(body)
    assert [_finish(endpoint, questions(3), run).unanswered for _ in range(2)] == [3, 0]
    assert dialect_of(endpoint) == Dialect("plain", "", temperature=False)


def test_a_person_is_told_what_a_batchs_lines_say(
    endpoint: Endpoint, double: Double, questions: Make, run: Warehouse
) -> None:
    _plays(double, [next(one for one in OF[Case.QUOTA] if one.server == "DeepSeek")])
    outcomes = _finish(endpoint, questions(3), run)
    assert isinstance(outcomes.fatal, EndpointFatal) and "top it up" in str(outcomes.complaint())
