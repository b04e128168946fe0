"""POST /v1/embeddings: the vectors that the embedding ranker ranks by, for whoever wants them without a key."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import orjson

from llmser_tasks.ranker.request import LONGEST_TITLE, Malformed
from llmser_tasks.ranker.responses import MODEL
from llmser_tasks.texts.encoder import Vectors

MOST_TEXTS = 512  # of one request


@dataclass(frozen=True)
class EmbeddingRequest:
    """What is to be embedded, and whether its numbers are wanted in base64."""

    texts: list[str]
    packed: bool


def read_request(body: bytes) -> EmbeddingRequest:
    """
    Raises:
        Malformed: it is no such request.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("The request is not JSON.") from None
    given = request.get("input") if isinstance(request, dict) else None
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Malformed("'input' must be a text or a list of texts, none of them empty.")
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise Malformed(f"'input' must hold 1 to {MOST_TEXTS} texts.")
    encoding = request.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Malformed("'encoding_format' must be float or base64.")
    return EmbeddingRequest([text[:LONGEST_TITLE] for text in texts], encoding == "base64")


def embeddings(request: EmbeddingRequest, vectors: Vectors) -> bytes:
    """The response to it."""
    tokens = sum(-(-len(text.encode()) // 4) for text in request.texts)  # as far as bytes can tell
    body: dict[str, Any] = {
        "object": "list",
        "model": MODEL,
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, packed=request.packed)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return orjson.dumps(body)


def _written(vector: Vectors, *, packed: bool) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
