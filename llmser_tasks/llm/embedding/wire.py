"""What is sent to /v1/embeddings, and what comes back."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import LlmError, Unavailable
from llmser_tasks.warehouse import ledger

PATH = "embeddings"
VERSION = ledger.VECTOR  # part of every key
LONGEST = 8_000  # characters of a text, LLM-ESR's; the models that people use read 8,192 tokens
LARGEST_RESPONSE = 32 << 20  # bytes: 64 vectors of 4,096 numbers, written as text
MOST_DIMENSIONS = 1 << 16

Vector: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """What came back for a few texts.

    Attributes:
        vectors: (d,) each, in the order of the texts; finite, not all zeros, of no certain length.
        tokens: of all the texts; None where the server does not say.
        answered_by: the model, as the server names it.
    """

    vectors: list[Vector]
    tokens: int | None
    answered_by: str | None


def shortened(text: str) -> str:
    """The text as it is sent."""
    return text[:LONGEST]


def key(endpoint: Endpoint, text: str) -> str:
    """The ledger's, of a text: equal texts and models, equal keys."""
    basis = [VERSION, endpoint.model, endpoint.parameters, shortened(text)]
    return hashlib.sha256(orjson.dumps(basis, option=orjson.OPT_SORT_KEYS)).hexdigest()


def identity(endpoint: Endpoint) -> str:
    """Of all that a text's vector depends on beside the text, as far as anybody here can know."""
    return hashlib.sha256(f"{VERSION} {key(endpoint, '')}".encode()).hexdigest()


def request_body(endpoint: Endpoint, texts: Sequence[str], encoding: str | None) -> bytes:
    """
    Args:
        encoding: "base64", a third as many bytes as numbers written out; None: whatever the server likes.
    """
    body: dict[str, Any] = {"model": endpoint.model, "input": list(texts)}
    if encoding is not None:
        body["encoding_format"] = encoding
    return orjson.dumps({**body, **endpoint.extra_body})


def read_vectors(endpoint: Endpoint, headers: Mapping[str, str], raw: bytes, count: int) -> Embedded:
    """What a response with status 200 to `count` texts says.

    Vectors are put into the order of the texts by their `index`; numbers may be written out or in base64.

    Raises:
        LlmError: it is an error after all, or does not hold one usable vector for each text.
    """
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict) and "error" in parsed and "data" not in parsed:
        raise classify(endpoint, 200, headers, raw)
    data = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(data, list):
        raise _unusable(endpoint, "something that holds no embeddings; check that its URL ends with the version (…/v1)")
    if len(data) != count:
        raise _unusable(endpoint, f"{len(data):,} embeddings for {count:,} texts")
    found: dict[int, Vector] = {}
    for place, one in enumerate(data):
        if not isinstance(one, dict):
            raise _unusable(endpoint, "an embedding that is no JSON object")
        index = one.get("index", place)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in found:
            raise _unusable(endpoint, "embeddings whose index is missing, out of range or there twice")
        found[index] = _vector(endpoint, one.get("embedding"))
    vectors = [found[index] for index in range(count)]
    if len(sizes := {len(vector) for vector in vectors}) > 1:
        raise _unusable(endpoint, f"embeddings of different lengths ({min(sizes)} and {max(sizes)})")
    return Embedded(vectors, _tokens(parsed.get("usage")), _short(parsed.get("model")))


def text_of(vector: Vector) -> str:
    """A vector as the ledger keeps it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def vector_of(text: str) -> Vector | None:
    """The vector that the ledger keeps; None where it is none."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return np.frombuffer(raw, "<f4").astype(np.float32) if raw and len(raw) % 4 == 0 else None


def _vector(endpoint: Endpoint, said: Any) -> Vector:
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], list):  # llama.cpp's own form
        said = said[0]
    vector: Vector | None = None
    if isinstance(said, str):
        vector = vector_of(said)
    elif isinstance(said, list) and all(isinstance(number, int | float) for number in said):
        with np.errstate(over="ignore"):
            vector = np.array(said, np.float64).astype(np.float32)
    if vector is None or not 1 <= len(vector) <= MOST_DIMENSIONS:
        raise _unusable(endpoint, "an embedding that is neither a list of numbers nor these in base64")
    if not np.isfinite(vector).all():
        raise _unusable(endpoint, "an embedding with numbers that are not finite")
    if not vector.any():
        raise _unusable(endpoint, "an embedding that is all zeros")
    return vector


def _tokens(usage: Any) -> int | None:
    if not isinstance(usage, dict):
        return None
    counts = (usage.get(name) for name in ("prompt_tokens", "total_tokens"))
    return next((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31), None)


def _short(value: Any) -> str | None:
    return clean_title(value, 200) if isinstance(value, str) else None


def _unusable(endpoint: Endpoint, what: str) -> LlmError:
    return Unavailable(f"LLM endpoint {endpoint.name} ({endpoint.url}) sent {what}.")
