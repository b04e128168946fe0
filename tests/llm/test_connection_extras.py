"""What a connection's extra adds to every request, over HTTP: it arrives, and no message repeats what is secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import provider_batch
import pytest
from llm_double import KEY, Double, fails
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import dialects
from llmser_tasks.llm.dialects import Dialect
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import fanout
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import batches, runs

Make = Callable[..., list[PickQuestion]]
SECRETS = (KEY, "team-secret-42", "2024-10-21-preview")


@pytest.fixture
def azure(endpoint: Endpoint) -> Endpoint:
    return replace(
        endpoint,
        key_header="api-key",
        headers={"X-Team": "team-secret-42"},
        query={"api-version": "2024-10-21-preview"},
        extra_body={"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
        max_tokens=4000,
    )


def test_all_of_it_arrives(azure: Endpoint, double: Double, questions: Make, warehouse: Warehouse) -> None:
    assert fanout.answer(azure, questions(2), warehouse).unanswered == 0
    body, headers, query = double.bodies[0], double.headers[0], double.queries[0]
    assert (body["reasoning_effort"], body["chat_template_kwargs"]) == ("low", {"enable_thinking": False})
    assert (body["model"], body["max_tokens"], len(body["messages"])) == ("m", 4000, 2)
    assert headers["api-key"] == KEY and headers["x-team"] == "team-secret-42" and "authorization" not in headers
    assert query == "api-version=2024-10-21-preview"


def test_a_batch_has_it_too(azure: Endpoint, double: Double, questions: Make, warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "beauty", {})
    batches.record(warehouse, batches.Account("r", "snf", 0), "users", 10, batches.Standing("running"))
    dialects.known[dialects.place_of(azure)] = Dialect()
    outcomes = provider_batch.finish(azure, questions(3), warehouse, batches.Account("r", "snf", 0))
    assert outcomes.unanswered == 0 and {body["reasoning_effort"] for body in double.bodies} == {"low"}
    assert {body["max_tokens"] for body in double.bodies} == {4000}
    assert len(double.headers) >= 4 and set(double.queries) == {"api-version=2024-10-21-preview"}
    assert all(headers["api-key"] == KEY and headers["x-team"] == "team-secret-42" for headers in double.headers)


def test_other_parameters_are_another_question(
    azure: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    assert fanout.answer(azure, questions(3), warehouse).calls == 3
    assert fanout.answer(azure, questions(3), warehouse).calls == 0
    assert fanout.answer(replace(azure, headers={}, query={}, max_tokens=9), questions(3), warehouse).calls == 0
    assert fanout.answer(replace(azure, extra_body={"reasoning_effort": "high"}), questions(3), warehouse).calls == 3


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_no_message_and_no_row_repeats_a_secret(
    status: int,
    azure: Endpoint,
    double: Double,
    questions: Make,
    warehouse: Warehouse,
    hasty: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    double.plays(fails(status, None, f"bad {' and '.join(SECRETS)}"))
    outcomes = fanout.answer(azure, questions(2), warehouse)
    said = str([*outcomes, outcomes.fatal, outcomes.complaint()]) + caplog.text
    with transaction(warehouse) as connection:
        for name in ("answers", "endpoint_dialects", "batches"):
            said += str(connection.execute(text(f"select * from {name}")).all())
    assert not any(secret in said for secret in SECRETS)
