"""An endpoint that answers by rule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoint_double import Double, double

from llmser_tasks.llm import breaker, client
from llmser_tasks.warehouse import runs


@pytest.fixture(scope="session")
def _double() -> Iterator[Double]:
    with double() as made:
        yield made


@pytest.fixture
def llm(_double: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Well-behaved until a test scripts otherwise; retries come at once."""
    _double.reset()
    client._spoken.clear()
    monkeypatch.setattr(client, "BACKOFF_S", 0.005)
    monkeypatch.setattr(client, "RATE_BACKOFF_S", 0.005)
    monkeypatch.setattr(breaker, "SECONDS", 0.5)
    return _double


@pytest.fixture
def run_id(database_url: str) -> str:
    runs.create(database_url, "r1", "tiny", {})
    return "r1"
