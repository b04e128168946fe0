"""An OpenAI-compatible endpoint for tests that answers by rule: the same question, the same answer, in any order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from json_server import answering

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import client, dialects
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import breaker
from llmser_tasks.warehouse.tables import runs

Block = dict[str, Any]  # {"history": [titles], "candidates": [{"id", "title"}]}
Reply = str | tuple[int, dict[str, Any]]  # the message's content, or a status and an error body


def by_title(block: Block, schema: dict[str, Any]) -> str:
    """Likes candidates by a hash of history and title, so that neither order nor number matters; and writes of every
    history something of its own.
    """
    if "text" in schema["properties"]:
        return json.dumps({"text": f"Likes {', '.join(block['history'])} and the like."})

    def liking(candidate: dict[str, str]) -> str:
        return hashlib.sha256(json.dumps([block["history"], candidate["title"]]).encode()).hexdigest()

    ids = [candidate["id"] for candidate in sorted(block["candidates"], key=liking)]
    if "item" in schema["properties"]:
        return json.dumps({"item": ids[0]})
    return json.dumps({"picks": ids[: schema["properties"]["picks"]["maxItems"]]})


class Double:
    """`script(block, schema)` makes the reply; `asked` holds the data block of every request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reset()

    def reset(self) -> None:
        self.endpoint = Endpoint(name="double", url=self._url, model="double", max_concurrency=4, timeout_s=10)
        self.script: Callable[[Block, dict[str, Any]], Reply] = by_title
        self.asked: list[Block] = []
        self.instructions: set[str] = set()


@contextmanager
def double() -> Iterator[Double]:
    """Serve on loopback for the length of the block."""

    def answer(_: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        block = json.loads(body["messages"][-1]["content"])
        made.asked.append(block)
        made.instructions.add(body["messages"][0]["content"])
        reply = made.script(block, body["response_format"]["json_schema"]["schema"])
        if not isinstance(reply, str):
            return reply
        return 200, {
            "model": "double-1",
            "choices": [{"message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }

    with answering(answer) as url:
        made = Double(url)
        yield made


@pytest.fixture(scope="session")
def llm_server() -> Iterator[Double]:
    with double() as made:
        yield made


@pytest.fixture
def llm(llm_server: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Well-behaved until a test scripts otherwise; retries come at once."""
    llm_server.reset()
    dialects.known.clear()
    monkeypatch.setattr(client, "BACKOFF_S", 0.005)
    monkeypatch.setattr(client, "RATE_BACKOFF_S", 0.005)
    monkeypatch.setattr(breaker, "SECONDS", 0.5)
    return llm_server


@pytest.fixture
def run_id(warehouse: Warehouse) -> str:
    """A run to write rows for."""
    runs.create(warehouse, "r1", "tiny", {})
    return "r1"
