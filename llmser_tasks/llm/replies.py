"""From a response's body to what the endpoint said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify, unanswered
from llmser_tasks.llm.errors import CutOff, NoAnswer, Unavailable
from llmser_tasks.llm.question import Question
from llmser_tasks.llm.server_cases import Case
from llmser_tasks.llm.server_cases.finishes import finished, is_cut_off
from llmser_tasks.llm.thinking import aloud, is_answer
from llmser_tasks.warehouse.ledger import Entry

_THOUGHTS = {"thinking", "reasoning", "reasoning_text", "redacted_thinking"}  # parts of a message beside its answer

LONGEST_KEPT = 20_000  # characters; of a longer reply, only what follows its thinking


@dataclass(frozen=True)
class Reply:
    """What an endpoint said. `content` may be anything, also empty; its question reads it."""

    content: str
    finish_reason: str | None
    answered_by: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    prompt_bytes: int | None  # of the whole request
    attempts: int
    latency_ms: int | None  # of the attempt that succeeded
    billed: bool = False  # the batch's bill has its price already, as money spent for nothing

    def enter(self, row: Entry, cost: float | None) -> Entry:
        """The ledger's row of a question, with this in it."""
        return replace(
            row,
            attempts=self.attempts,
            answered_by=self.answered_by,
            content=self.content,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=cost,
            latency_ms=self.latency_ms,
            prompt_bytes=self.prompt_bytes,
        )


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
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else None
    content = _answer(message, cut_off=is_cut_off(finish))
    said = aloud(content)
    usage = _usage(parsed.get("usage"))
    if isinstance(choice.get("error"), dict):
        error = classify(endpoint, 200, headers, orjson.dumps({"error": choice["error"]}))
        raise NoAnswer(str(error), usage) if isinstance(error, Unavailable) else error
    means = finished(finish, has_answer=bool(said))
    if message.get("refusal") and means is not Case.ANSWER:
        means = Case.FILTERED
    if means not in {Case.ANSWER, Case.CUT_OFF}:
        raise unanswered(endpoint, means, finish, usage)
    return Reply(
        content=content if len(content) <= LONGEST_KEPT else said[:LONGEST_KEPT],
        finish_reason=_short(finish),
        answered_by=_short(parsed.get("model")),
        prompt_tokens=usage[0],
        completion_tokens=usage[1],
        prompt_bytes=prompt_bytes,
        attempts=attempt,
        latency_ms=latency_ms,
    )


def is_lost(reply: Reply, question: Question) -> bool:
    """Whether it ended before it said anything of use."""
    return is_cut_off(reply.finish_reason) and not question.read(reply.content, reply.finish_reason).usable


def cut_off(endpoint: Endpoint, reply: Reply) -> CutOff:
    return CutOff(
        f"LLM endpoint {endpoint.name} ({endpoint.url}) ended with finish_reason {reply.finish_reason} before it "
        f"answered, after {reply.completion_tokens or 'an unknown number of'} tokens.",
        replace(reply, billed=True),
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


def _answer(message: Mapping[str, Any], cut_off: bool) -> str:
    """What a message says, wherever its server puts it: as content, as the arguments of a tool call, or, where a server
    takes all for thinking, as its thinking. The last only if that is an answer and nothing else: a draft is none."""
    content = _text(message.get("content"))
    if content.strip():
        return content
    for arguments in _arguments(message):
        if is_answer(arguments) or not cut_off:
            return arguments
    for name in ("reasoning_content", "reasoning", "thinking"):
        thought = _text(message.get(name))
        if not cut_off and is_answer(thought):
            return aloud(thought)
    return content


def _arguments(message: Mapping[str, Any]) -> Iterator[str]:
    """Of the message's tool calls."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in [*functions, message.get("function_call")]:
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, dict):  # of Ollama
            arguments = orjson.dumps(arguments).decode(errors="replace")
        if text := _text(arguments).strip():
            yield text


def _text(content: Any) -> str:
    """A message's content as storable text; some servers send it in parts, thinking among them."""
    if isinstance(content, list):
        content = "".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type") not in _THOUGHTS
        )
    if not isinstance(content, str):
        return ""
    return content.encode(errors="replace").decode().replace("\0", "")


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion, thinking included: some servers count it only in the total."""
    if not isinstance(usage, dict):
        return None, None
    prompt, completion, total = (
        _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if prompt is not None and completion is not None and total is not None:
        completion = max(completion, total - prompt)
    return prompt, completion


def _short(value: Any) -> str | None:
    return clean_title(value, 200) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
