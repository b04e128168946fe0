"""An endpoint to ask, and questions for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from llm_double import KEY, Double

from llmser_tasks.llm import client, dialects
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import breaker
from llmser_tasks.llm.prompts import PickQuestion, build_question


@pytest.fixture(scope="session")
def _double() -> Iterator[Double]:
    server = Double()
    yield server
    server.stop()


@pytest.fixture
def double(_double: Double) -> Double:
    """The server, well-behaved until a test scripts otherwise."""
    _double.reset()
    dialects.known.clear()
    return _double


@pytest.fixture
def endpoint(double: Double) -> Endpoint:
    return Endpoint(name="double", url=double.url, model="m", key=KEY, max_concurrency=8, timeout_s=5)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once, and give an endpoint up after half a second."""
    monkeypatch.setattr(client, "BACKOFF_S", 0.005)
    monkeypatch.setattr(client, "RATE_BACKOFF_S", 0.005)
    monkeypatch.setattr(breaker, "SECONDS", 0.5)


@pytest.fixture
def questions() -> Callable[..., list[PickQuestion]]:
    def make(count: int, picks: int = 2, first: int = 0) -> list[PickQuestion]:
        return [
            build_question(
                step="snf",
                prompt_version="t1",
                instructions="Pick what fits.",
                history=[f"thing {number}", "lamp"],
                candidates=["blue socks", "red hat", "green scarf", "garden hose"],
                picks=picks,
                seed=number,
            )
            for number in range(first, first + count)
        ]

    return make
