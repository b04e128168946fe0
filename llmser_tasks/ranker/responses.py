"""What the embedding ranker sends: chat completions, errors, JSON."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from llmser_tasks.ranker.faults import error_body
from llmser_tasks.ranker.request import ChatRequest

MODEL = "embedding-ranker"


@dataclass(frozen=True)
class ChatResponse:
    """Status, headers and body of a response, and the fault injected into it."""

    status: int
    headers: dict[str, str]
    body: bytes
    fault: str | None = None


def completion(question: ChatRequest, content: str, finish: str, *, usage: bool) -> bytes:
    body: dict[str, Any] = {
        "id": f"chatcmpl-{question.hash[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
    }
    if usage:  # tokens, as far as bytes can tell
        prompt, answer = -(-question.prompt_bytes // 4), -(-len(content.encode()) // 4)
        body["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }
    return orjson.dumps(body)


def error_response(status: int, message: str, kind: str, code: str | None = None) -> Response:
    return Response(orjson.dumps(error_body(message, kind, code)), status, media_type="application/json")


def as_json(value: Any) -> Response:
    """A response of status 200."""
    return Response(orjson.dumps(value), media_type="application/json")
