"""What questions will cost, by what the same model answered before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmser_tasks.asking.questions import Inquiry
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import dialects
from llmser_tasks.llm.dialects import Dialect
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.prompts import build_question
from llmser_tasks.runs import estimate
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.ledger import Entry

ENDPOINT = Endpoint("e", "https://host/v1", "thinker", price_per_million_prompt=1.0, price_per_million_completion=10.0)


def _estimate(endpoint: Endpoint, warehouse: Warehouse, step: str = "reason") -> estimate.Estimate:
    question = build_question(
        step=step, prompt_version="1", instructions="Pick.", history=["a"], candidates=["b", "c"], picks=2, seed=1
    )
    return estimate._scaled(step, [Inquiry(1, question)], 100, endpoint, warehouse)


@pytest.fixture(autouse=True)
def unknown() -> None:
    dialects.known.clear()


def test_thinking_counts_as_the_model_thought_before(warehouse: Warehouse) -> None:
    rows = [
        Entry(f"{number}", "snf", "1", "thinker", 1, content="{}", prompt_tokens=100, completion_tokens=800,
              prompt_bytes=400)
        for number in range(5)
    ]  # fmt: skip
    ledger.insert(warehouse, rows)
    assert _estimate(ENDPOINT, warehouse, "snf").completion_tokens == 80_000
    assert _estimate(ENDPOINT, warehouse).completion_tokens == 1_100  # of a step that it was never asked
    dialects.note(ENDPOINT, Dialect(room=4096), warehouse)
    assert _estimate(ENDPOINT, warehouse).completion_tokens == 80_000  # it thinks, whatever it is asked


def test_the_most_is_what_answers_may_have(warehouse: Warehouse) -> None:
    def most_tokens(endpoint: Endpoint) -> float:
        found = _estimate(endpoint, warehouse)
        assert found.most is not None
        return (found.most * 1e6 - found.prompt_tokens) / 10 / 100

    assert most_tokens(ENDPOINT) == pytest.approx(72)
    assert most_tokens(replace(ENDPOINT, max_tokens=2000)) == pytest.approx(2000)
    dialects.note(ENDPOINT, Dialect(room=4096), warehouse)
    assert most_tokens(ENDPOINT) == pytest.approx(4096)
    dialects.note(ENDPOINT, Dialect(length=""), warehouse)
    assert most_tokens(ENDPOINT) == pytest.approx(dialects.MOST_ROOM)  # nothing limits it
