"""What servers send for embeddings: which is read, and which is refused with what sentence."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from llmser_tasks.llm.embedding import wire
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import LlmError, RateLimited, Unavailable

ENDPOINT = Endpoint("e", "https://host/v1", "small", key="sk-planted-0123")


def packed(numbers: list[float]) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def read(data: Any, count: int = 2, **more: Any) -> wire.Embedded:
    return wire.read_vectors(ENDPOINT, {}, json.dumps({"data": data} | more).encode(), count)


def test_the_order_is_that_of_the_index() -> None:
    made = read([{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1, 2]}], model="small-2")
    assert [one.tolist() for one in made.vectors] == [[1, 2], [3, 4.5]]
    assert all(one.dtype == np.float32 for one in made.vectors)
    assert made.answered_by == "small-2" and made.tokens is None


def test_without_an_index_the_order_is_that_of_the_list() -> None:
    assert [one.tolist() for one in read([{"embedding": [1]}, {"embedding": [2]}]).vectors] == [[1], [2]]


def test_base64_and_lists_and_lists_of_lists_are_read() -> None:
    made = read([{"index": 0, "embedding": packed([0.5, -2])}, {"index": 1, "embedding": [[0.25, 1]]}])
    assert [one.tolist() for one in made.vectors] == [[0.5, -2], [0.25, 1]]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"prompt_tokens": 7}, 7), ({"total_tokens": 9}, 9), ({"prompt_tokens": -1}, None), ("many", None), ({}, None)],
)
def test_tokens_are_what_the_server_counts(usage: Any, tokens: int | None) -> None:
    assert read([{"embedding": [1]}], 1, usage=usage).tokens == tokens


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"embedding": [1]}], "1 embeddings for 2 texts"),
        ([{"embedding": [1]}] * 3, "3 embeddings for 2 texts"),
        (None, "holds no embeddings"),
        ([[1], [2]], "no JSON object"),
        ([{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}], "there twice"),
        ([{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [2]}], "out of range"),
        ([{"embedding": [1, 2]}, {"embedding": [1]}], "different lengths (1 and 2)"),
        ([{"embedding": [1]}, {"embedding": []}], "neither a list of numbers"),
        ([{"embedding": [1]}, {"embedding": ["1"]}], "neither a list of numbers"),
        ([{"embedding": [1]}, {"embedding": "%%%"}], "neither a list of numbers"),
        ([{"embedding": [1]}, {"embedding": base64.b64encode(b"short").decode()}], "neither a list of numbers"),
        ([{"embedding": [1]}, {}], "neither a list of numbers"),
        ([{"embedding": [1]}, {"embedding": packed([float("nan")])}], "not finite"),
        ([{"embedding": [1]}, {"embedding": [1e300]}], "not finite"),
        ([{"embedding": [1]}, {"embedding": [0.0]}], "all zeros"),
    ],
)
def test_what_is_no_usable_vector_is_refused_in_a_sentence(data: Any, said: str) -> None:
    with pytest.raises(Unavailable, match=r"LLM endpoint e \(https://host/v1\) sent .*\.") as caught:
        read(data)
    assert said in str(caught.value) and "sk-planted" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{", b"null"])
def test_what_is_no_response_is_refused(raw: bytes) -> None:
    with pytest.raises(LlmError, match="no embeddings"):
        wire.read_vectors(ENDPOINT, {}, raw, 1)


def test_an_error_sent_as_a_success_is_that_error() -> None:
    raw = json.dumps({"error": {"code": "429", "message": "slow down"}}).encode()
    with pytest.raises(RateLimited):
        wire.read_vectors(ENDPOINT, {}, raw, 1)


def test_what_the_ledger_keeps_comes_back_to_the_bit() -> None:
    vector = np.random.default_rng(0).normal(size=1536).astype(np.float32)
    again = wire.vector_of(wire.text_of(vector))
    assert again is not None and np.array_equal(again, vector)


def test_a_key_is_of_text_model_and_what_else_goes_with_every_request() -> None:
    other = Endpoint("e2", "https://elsewhere/v1", "small")
    shorter = Endpoint("e", "https://host/v1", "small", extra_body={"dimensions": 256})
    assert wire.key(ENDPOINT, "soap") == wire.key(other, "soap"), "who serves a model does not matter"
    different = {wire.key(ENDPOINT, "soap"), wire.key(ENDPOINT, "comb"), wire.key(shorter, "soap")}
    assert len(different | {wire.key(Endpoint("e", "https://host/v1", "large"), "soap")}) == 4
    assert wire.identity(ENDPOINT) != wire.identity(shorter)
    assert wire.key(ENDPOINT, "x" * 8_000) == wire.key(ENDPOINT, "x" * 9_000), "what is cut off does not count"


def test_what_the_connection_adds_goes_into_the_request() -> None:
    shorter = Endpoint("e", "https://host/v1", "small", extra_body={"dimensions": 256})
    assert json.loads(wire.request_body(shorter, ["a", "b"], "base64")) == {
        "model": "small", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256,
    }  # fmt: skip
    assert json.loads(wire.request_body(ENDPOINT, ["a"], None)) == {"model": "small", "input": ["a"]}
