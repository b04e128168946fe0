"""From a response's body to what the endpoint said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import ContentFiltered, Unavailable, classify
from llmser_tasks.text import clean_title


@dataclass(frozen=True)
class Reply:
    """What an endpoint said. `content` may be anything, also empty; `answers.parse` makes sense of it."""

    content: str
    finish_reason: str | None
    answered_by: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    prompt_bytes: int | None  # of the whole request
    attempts: int
    latency_ms: int | None  # of the attempt that succeeded


def read_reply(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    raw: bytes,
    prompt_bytes: int | None,
    attempt: int,
    latency_ms: int | None,
) -> Reply:
    """What a response with status 200 says.

    Raises:
        LlmError: it is no answer.
    """
    parsed = _json(raw)
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(parsed, dict) or not isinstance(choice, dict) or not isinstance(message, dict):
        if isinstance(parsed, dict) and "error" in parsed:
            raise classify(endpoint, 200, headers, raw)
        raise Unavailable(
            f"LLM endpoint {endpoint.name} ({endpoint.url}) answered 200 with something that is no "
            "chat completion; check that its URL ends with the version (…/v1)."
        )
    content = _text(message.get("content"))
    finish = choice.get("finish_reason")
    if not content and (finish in {"content_filter", "sensitive"} or message.get("refusal")):
        raise ContentFiltered(f"LLM endpoint {endpoint.name} withheld its answer (content filter).")
    if finish == "network_error":  # GLM's word for an answer that broke off inside its own house
        raise Unavailable(f"LLM endpoint {endpoint.name} reports a network error of its own.")
    usage = parsed.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        content=content,
        finish_reason=_short(finish),
        answered_by=_short(parsed.get("model")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        prompt_bytes=prompt_bytes,
        attempts=attempt,
        latency_ms=latency_ms,
    )


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:  # an answer may hold half a surrogate pair, which orjson refuses; it was paid for
        return json.loads(raw.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _text(content: Any) -> str:
    """A message's content as storable text; some servers send it in parts."""
    if isinstance(content, list):
        content = "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    if not isinstance(content, str):
        return ""
    return content.encode(errors="replace").decode().replace("\0", "")


def _short(value: Any) -> str | None:
    return clean_title(value, 200) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
