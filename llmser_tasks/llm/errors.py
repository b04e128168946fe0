"""What can go wrong with a call, classed by what has to happen next.

Providers agree on neither status codes nor body codes: GLM sends "your account is in arrears" as 429, others send it
as 400, 402 or 403. So the code in the body decides first, the wording second, and the status only where both are mute.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from llmser_tasks.errors import LlmserError
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.text import clean_title

MOST_PARTS = 500  # of an error body that are looked at
LONGEST_WORDING = 4000  # characters of what it says
LONGEST_CODE = 100
LONGEST_PAUSE_S = 86_400.0  # believed of a Retry-After: it is written down for every worker, and nobody takes it back


class LlmError(LlmserError):
    """A call that brought no answer. `kind` is its short name in counts and reports."""

    kind = "error"


class Retriable(LlmError):
    """Passing: the same question may be answered later. `retry_after` is what the endpoint asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Retriable):
    kind = "rate limit"


class Unavailable(Retriable):
    """5xx, a reset connection, or an answer that is none."""

    kind = "server error"


class Unreachable(Unavailable):
    kind = "unreachable"


class Timeout(Retriable):
    kind = "timeout"


class Refused(LlmError):
    """A 4xx that nothing explains. Asking again at once does not help; nothing says that it never will."""

    kind = "refused"


class FormatRefused(Refused):
    """The way of asking is refused (response_format, max_tokens, temperature): another one may be taken."""

    kind = "format refused"


class EndpointFatal(LlmError):
    """No question will be answered until a person does something."""


class KeyRefused(EndpointFatal):
    kind = "key refused"


class QuotaExhausted(EndpointFatal):
    kind = "quota"


class EndpointUnsupported(EndpointFatal):
    """No such URL, model or method there."""

    kind = "unsupported"


class Nonsense(EndpointFatal):
    """It answers, but hardly any answer names a candidate."""

    kind = "nonsense"


class QuestionFatal(LlmError):
    """This one question will never be answered; the others will."""


class ContentFiltered(QuestionFatal):
    kind = "content-filter"


class PromptTooLong(QuestionFatal):
    kind = "too-long"


# Body codes and types, lower case. Digits: GLM (docs.bigmodel.cn, api-code). Words: OpenAI, Azure, DashScope,
# Moonshot, DeepSeek, llama.cpp, OpenRouter, LiteLLM's proxy and those that copy them.
# Where a body names several, the first class in this order counts.
_WORDS_OF: dict[type[LlmError], str] = {
    KeyRefused: """
        1000 1001 1002 1003 1004 1110 1111 1220 1311 invalid_api_key invalidapikey api_key_invalid incorrect_api_key
        invalid_authentication_error authentication_error permission_error account_deactivated token_expired
        no_db_connection""",
    QuotaExhausted: """
        1112 1113 1121 1304 1308 1309 1310 1313 insufficient_quota billing_hard_limit_reached billing_not_active
        insufficient_balance insufficient_user_quota exceeded_current_quota_error arrearage quota_exceeded
        budget_exceeded access_terminated""",
    EndpointUnsupported: """
        1211 1212 1221 1222 model_not_found deploymentnotfound unsupported_model invalid_model""",
    ContentFiltered: """
        1300 1301 content_filter content_policy_violation responsibleaipolicyviolation contentpolicyviolationerror
        data_inspection_failed datainspectionfailed sensitive_words_detected prompt_blocked""",
    PromptTooLong: """
        1261 context_length_exceeded contextwindowexceedederror exceed_context_size_error string_above_max_length
        tokens_too_long characters_too_long""",
    RateLimited: """
        1302 1303 1305 1312 rate_limit_exceeded rate_limit_reached_error rate_limit_error engine_overloaded_error
        requests tokens throttling throttling.ratequota throttling.allocationquota limit_requests""",
    Unavailable: """
        500 1120 1200 1230 1234 server_error internal_server_error overloaded_error""",
}
_CODES = {kind: frozenset(words.split()) for kind, words in _WORDS_OF.items()}
_WORDS: dict[type[LlmError], re.Pattern[str]] = {
    PromptTooLong: re.compile(
        r"context[ _]?(window|length|size)(?!_fallback)|prompt is too long|input length|too many tokens"
        r"|reduce the length|超长",
        re.I,
    ),
    ContentFiltered: re.compile(r"content[ _]?(filter|policy|management policy)|flagged|敏感", re.I),
    QuotaExhausted: re.compile(r"insufficient balance|in arrears|exceeded your current quota|欠费|余额不足", re.I),
}
_FORMAT = re.compile(r"response_format|json_schema|json_object|guided|structured output|grammar", re.I)
_PARAMETER = re.compile(r"max_completion_tokens|temperature", re.I)
_MODEL_MISSING = re.compile(
    r"\bmodel\b.{0,120}(not (found|exist)|does not exist|unknown|no such)|invalid model name|server is pinned to", re.I
)


def classify(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> LlmError:
    """The error that a response with this status and body stands for."""
    codes, text = _read(body)
    if status < 300:  # an error in a success's clothes; some proxies do that
        status = next((int(c) for c in codes if re.fullmatch(r"[45][0-9]{2}", c)), 502)
    said = _quote(endpoint, text)
    kind = _class(status, codes, text)
    where = f"LLM endpoint {endpoint.name} ({endpoint.url})"
    if kind is KeyRefused:
        return KeyRefused(
            f"{where} refuses its key (HTTP {status}); check the password of the connection {endpoint.name} "
            f"and that it may use the model {endpoint.model}, then rerun: answers received so far are kept."
        )
    if kind is QuotaExhausted:
        return QuotaExhausted(
            f"{where} says that its account has no quota left or is locked (HTTP {status}{said}); top it up, or wait "
            "until the quota renews, then rerun: answers received so far are kept."
        )
    if kind is EndpointUnsupported:
        return EndpointUnsupported(
            f"{where} cannot be asked this way (HTTP {status}{said}); check that its URL ends with the version (…/v1) "
            f"and that it serves the model {endpoint.model}."
        )
    message = f"{where} answered HTTP {status}{said}."
    if issubclass(kind, Retriable):
        return kind(message, retry_after(headers))
    return kind(message)


def _class(status: int, codes: set[str], text: str) -> type[LlmError]:
    if (status in {400, 422} or status == 500) and _FORMAT.search(text):
        return FormatRefused
    for kind, known in _CODES.items():
        if codes & known:
            return kind
    if 400 <= status < 500:
        for kind, words in _WORDS.items():
            if words.search(text):
                return kind
    if status == 400 and _PARAMETER.search(text):
        return FormatRefused
    if status in {400, 404} and _MODEL_MISSING.search(text):
        return EndpointUnsupported
    by_status: dict[int, type[LlmError]] = {
        401: KeyRefused, 402: QuotaExhausted, 403: KeyRefused, 404: EndpointUnsupported, 405: EndpointUnsupported,
        408: Timeout, 410: EndpointUnsupported, 413: PromptTooLong, 425: Unavailable, 429: RateLimited, 504: Timeout,
    }  # fmt: skip
    if status in by_status:
        return by_status[status]
    if 300 <= status < 400:  # following it could carry the key to another host
        return EndpointUnsupported
    return Refused if 400 <= status < 500 else Unavailable


def _read(body: bytes) -> tuple[set[str], str]:
    """Every code and type that an error body names, lower case, and its wording; of MOST_PARTS parts, outer ones first.

    The body is a stranger's: what is looked at is bounded, whatever it nests or repeats.
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
    """What the endpoint said, as one short line; it comes from outside and may repeat the key."""
    if endpoint.key:
        text = text.replace(endpoint.key, "…")
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
