"""From a response that is no answer to the error that it stands for; `server_cases` has the table."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import (
    ContentFiltered,
    CutOff,
    EndpointUnsupported,
    FormatRefused,
    KeyRefused,
    LengthRefused,
    LlmError,
    NoAnswer,
    PromptTooLong,
    QuotaExhausted,
    RateLimited,
    Refused,
    Retriable,
    Timeout,
    Unavailable,
)
from llmser_tasks.llm.server_cases import Case
from llmser_tasks.llm.server_cases.refusals import named_parameters, refused

MOST_PARTS = 500  # of an error body that are looked at
LONGEST_WORDING = 4000  # characters of what it says
LONGEST_CODE = 100
LONGEST_PAUSE_S = 86_400.0  # the longest Retry-After that is believed: it pauses every worker, and nothing cancels it

CLASS_OF: dict[Case, type[LlmError]] = {
    Case.NO_ANSWER: NoAnswer,
    Case.CUT_OFF: CutOff,
    Case.FILTERED: ContentFiltered,
    Case.TOO_LONG: PromptTooLong,
    Case.RATE_LIMIT: RateLimited,
    Case.SERVER_ERROR: Unavailable,
    Case.TIMEOUT: Timeout,
    Case.KEY: KeyRefused,
    Case.QUOTA: QuotaExhausted,
    Case.UNSUPPORTED: EndpointUnsupported,
    Case.FORM: FormatRefused,
    Case.LENGTH: LengthRefused,
    Case.REFUSED: Refused,
}


def classify(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> LlmError:
    """The error that a response with this status and body stands for."""
    codes, text = _read(body)
    if status < 300:  # an error sent as a success; some proxies do that
        status = next((int(c) for c in codes if re.fullmatch(r"[45][0-9]{2}", c)), 502)
    said = _quote(endpoint, text)
    row = refused(status, codes, text)
    kind = CLASS_OF[row.case]
    where = f"LLM endpoint {endpoint.name} ({endpoint.url})"
    if kind is KeyRefused:
        return KeyRefused(
            f"{where} refuses its key (HTTP {status}); check the password of the connection {endpoint.name} "
            f"(it goes into the header {endpoint.key_header}) and that it may use the model {endpoint.model}, then "
            "rerun: answers received so far are kept."
        )
    if kind is QuotaExhausted:
        return QuotaExhausted(
            f"{where} says that its account has no quota left or is locked (HTTP {status}{said}); top it up, or wait "
            "until the quota renews, then rerun: answers received so far are kept."
        )
    if kind is EndpointUnsupported and row.advice:
        return EndpointUnsupported(f"{where} cannot be asked this way (HTTP {status}{said}): {row.advice}.")
    if kind is EndpointUnsupported:
        return EndpointUnsupported(
            f"{where} cannot be asked this way (HTTP {status}{said}); check that its URL ends with the version (…/v1) "
            f"and that it serves the model {endpoint.model}."
        )
    message = f"{where} answered HTTP {status}{said}."
    if kind is FormatRefused:
        return FormatRefused(message, named_parameters(text))
    if issubclass(kind, Retriable):
        return kind(message, retry_after=retry_after(headers))
    return kind(message)


def unanswered(
    endpoint: Endpoint, case: Case, finish: str | None, usage: tuple[int | None, int | None] = (None, None)
) -> LlmError:
    """The error that a chat completion without an answer stands for."""
    where = f"LLM endpoint {endpoint.name} ({endpoint.url})"
    ended = f"ended with finish_reason {clean_title(finish or '', 60) or 'null'}"
    kind = CLASS_OF[case]
    if kind is NoAnswer:
        return NoAnswer(f"{where} answered with nothing: it {ended}.", usage)
    return kind(f"{where} withheld its answer: it {ended}.")


def _read(body: bytes) -> tuple[set[str], str]:
    """Every code and type that an error body names, lower case, and its wording; of MOST_PARTS parts, outer ones first.

    The body is not to be trusted: however deep or long it is, no more than that is looked at.
    """
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return set(), body[:2000].decode(errors="replace")
    codes: set[str] = set()
    words: list[str] = []
    pending = deque([parsed])
    for _ in range(MOST_PARTS):
        if not pending:
            break
        part = pending.popleft()
        if isinstance(part, str):
            words.append(part[:LONGEST_WORDING])
        elif isinstance(part, list):
            pending.extend(part[:20])
        elif isinstance(part, dict):
            named = [part[n] for n in ("code", "type", "error_code", "status") if n in part]
            codes |= {str(one)[:LONGEST_CODE].lower() for one in named if isinstance(one, str | int | float)}
            pending.extend(
                part[n]
                for n in ("error", "message", "detail", "msg", "error_msg", "param", "loc", "innererror", "inner_error")
                if n in part
            )
    return codes, " ".join(words)[:LONGEST_WORDING]


def _quote(endpoint: Endpoint, text: str) -> str:
    """What the endpoint said, as one short line; it comes from outside and may repeat the key or a header."""
    for secret in endpoint.secrets:
        text = text.replace(secret, "…")
    text = re.sub(r"\b(sk|key|Bearer)[-_ ][\w.*-]{6,}", "…", text)
    line = clean_title(text, 200)
    return f", “{line}”" if line else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the endpoint asks to wait, a day at most; None where it does not say or cannot be understood.

    Forms: `retry-after-ms`; `retry-after` in seconds or as an HTTP date (measured against the response's own Date, so
    that clocks may differ); and both as a LiteLLM proxy passes them on, with `llm_provider-` before them. Where that
    proxy says that too many requests are in flight, its retry-after is the length of a window that has nothing to do
    with when one of them ends: fewer in flight is the remedy, which follows from the refusal itself.
    """
    if headers.get("rate_limit_type") == "max_parallel_requests":
        return None
    for prefix in ("", "llm_provider-"):
        milliseconds = _number(headers.get(f"{prefix}retry-after-ms"))
        if milliseconds is not None:
            return min(milliseconds / 1000, LONGEST_PAUSE_S)
        value = headers.get(f"{prefix}retry-after")
        seconds = _number(value)
        if seconds is not None:
            return min(seconds, LONGEST_PAUSE_S)
        until = _date(value)
        if until is not None:
            now = _date(headers.get("date"))
            return min(max(0.0, until - (time.time() if now is None else now)), LONGEST_PAUSE_S)
    return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None
