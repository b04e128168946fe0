"""An OpenAI-compatible /v1/embeddings for tests: the same text, the same vector, unless a test scripts otherwise."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from json_server import answering
from numpy.typing import NDArray

from llmser_tasks.llm import client
from llmser_tasks.llm.embedding import client as embedding_client
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet import breaker

DIMENSION = 6
Body = dict[str, Any]
Answer = tuple[int, Any]


def vector(text: str) -> NDArray[np.float32]:
    drawn = np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIMENSION)
    return np.asarray(drawn, np.float32)


def good(body: Body) -> Answer:
    """What a well-behaved server says, the last first: `index` tells which is which."""
    packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(body["input"]):
        numbers = vector(text)
        written = base64.b64encode(numbers.astype("<f4").tobytes()).decode() if packed else numbers.tolist()
        data.append({"object": "embedding", "index": index, "embedding": written})
    tokens = sum(len(text) for text in body["input"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return 200, {"object": "list", "model": "double-1", "data": data[::-1], "usage": usage}


def refuses(status: int, message: str, code: str | None = None) -> Answer:
    return status, {"error": {"message": message, "code": code, "type": "invalid_request_error"}}


class Double:
    """`script(number, body)` makes the response to the request of that number; `asked` holds every request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reset()

    def reset(self) -> None:
        self.endpoint = Endpoint("double", self._url, "double", max_concurrency=4, timeout_s=10)
        self.script: Callable[[int, Body], Answer] = lambda _, body: good(body)
        self.asked: list[Body] = []

    @property
    def texts(self) -> list[str]:
        return [text for body in self.asked for text in body["input"]]


@pytest.fixture(scope="session")
def embedding_server() -> Iterator[Double]:
    turn = threading.Lock()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with turn:
            number = len(made.asked)
            made.asked.append(body)
        assert path == "/v1/embeddings"
        return made.script(number, body)

    with answering(answer) as url:
        made = Double(url)
        yield made


@pytest.fixture
def embeddings(embedding_server: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Well-behaved until a test scripts otherwise; retries come at once."""
    embedding_server.reset()
    embedding_client._plain.clear()
    monkeypatch.setattr(client, "BACKOFF_S", 0.005)
    monkeypatch.setattr(client, "RATE_BACKOFF_S", 0.005)
    monkeypatch.setattr(breaker, "SECONDS", 0.5)
    return embedding_server
