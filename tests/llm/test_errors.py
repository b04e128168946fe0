import json
import sys
import time
from email.utils import formatdate
from types import FrameType
from typing import Any

import pytest
from llm_double import KEY

from llmser_tasks.llm import error_responses, errors
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify, retry_after

ENDPOINT = Endpoint("glm", "https://open.example/v4", "glm-4-flash", key=KEY)


def _body(code: object = None, message: str = "no", **more: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, **more}}).encode()


CASES = [
    # GLM: what the account suffers from comes as 429
    (429, _body("1112"), errors.QuotaExhausted),
    (429, _body("1113", "您的账户已欠费,请充值后重试"), errors.QuotaExhausted),
    (429, _body(1121), errors.QuotaExhausted),
    (429, _body("1304"), errors.QuotaExhausted),
    (429, _body("1308"), errors.QuotaExhausted),
    (429, _body("1310"), errors.QuotaExhausted),
    (429, _body("1302"), errors.RateLimited),
    (429, _body("1303"), errors.RateLimited),
    (429, _body("1305"), errors.RateLimited),
    (429, _body("1312"), errors.RateLimited),
    (400, _body("1301"), errors.ContentFiltered),
    (400, _body("1261", "Prompt 超长"), errors.PromptTooLong),
    (401, _body("1002"), errors.KeyRefused),
    (400, _body("1211"), errors.EndpointUnsupported),
    (500, _body("1234"), errors.Unavailable),
    # OpenAI, Azure
    (401, _body("invalid_api_key"), errors.KeyRefused),
    (429, _body("insufficient_quota", type="insufficient_quota"), errors.QuotaExhausted),
    (429, _body("rate_limit_exceeded", type="requests"), errors.RateLimited),
    (429, _body("rate_limit_exceeded", type="tokens"), errors.RateLimited),
    (400, _body("context_length_exceeded"), errors.PromptTooLong),
    (400, _body("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), errors.ContentFiltered),
    (404, _body("model_not_found"), errors.EndpointUnsupported),
    (400, _body(None, "'response_format' of type 'json_schema' is not supported"), errors.FormatRefused),
    (400, _body("unsupported_parameter", "Use 'max_completion_tokens' instead."), errors.FormatRefused),
    (400, _body("unsupported_value", "'temperature' does not support 0"), errors.FormatRefused),
    # others
    (402, _body(None, "Insufficient Balance"), errors.QuotaExhausted),
    (400, _body("Arrearage"), errors.QuotaExhausted),
    (400, _body("data_inspection_failed"), errors.ContentFiltered),
    (403, _body(403, "Your input was flagged"), errors.ContentFiltered),
    (403, _body(None), errors.KeyRefused),
    (400, b'{"object":"error","message":"maximum context length is 2048 tokens","code":400}', errors.PromptTooLong),
    (400, _body(400, "the request is too large", type="exceed_context_size_error"), errors.PromptTooLong),
    (404, b'{"error":"model \'llama9\' not found, try pulling it first"}', errors.EndpointUnsupported),
    (422, b'{"detail":[{"loc":["body","response_format"],"msg":"not permitted"}]}', errors.FormatRefused),
    (500, _body(None, "json_schema is not implemented"), errors.FormatRefused),
    # LiteLLM's proxy 1.106: types say little, and a key that it cannot look up is no database
    (401, _body("401", "Authentication Error, wrong key", type="auth_error"), errors.KeyRefused),
    (400, _body("400", "No connected db.", type="no_db_connection"), errors.KeyRefused),
    (400, _body("400", "/chat/completions: Invalid model name passed in model=gpt-9. Call `/v1/models` to view "
                "available models for your key.", type="invalid_request_error"), errors.EndpointUnsupported),
    (400, _body("400", "litellm.ContextWindowExceededError: litellm.BadRequestError: too much\nmodel=m. "
                "context_window_fallbacks=None. fallbacks=None.", type="invalid_request_error"), errors.PromptTooLong),
    (400, _body("400", "litellm.BadRequestError: what?\nmodel=m. context_window_fallbacks=None. fallbacks=None.",
                type="invalid_request_error"), errors.Refused),
    (400, _body("400", "litellm.ContentPolicyViolationError: no", type="invalid_request_error"),
     errors.ContentFiltered),
    (400, _body("400", "litellm.BadRequestError: OpenAIException - litellm.MockException: Exception: "
                "content_filter_policy", type="invalid_request_error"), errors.ContentFiltered),
    (408, _body("408", "litellm.Timeout: This is a mock timeout error", type="invalid_request_error"), errors.Timeout),
    (429, _body("429", "Rate limit exceeded for api_key: 29a3. Limit type: requests. Current limit: 20, Remaining: 0.",
                type="throttling_error"), errors.RateLimited),
    (500, _body("500", "litellm.InternalServerError: OpenAIException - Connection error.",
                type="internal_server_error"), errors.Unavailable),
    # transformers serve 5.23
    (400, b'{"detail":"Server is pinned to \'random-llama\'; requested \'gpt-9\'."}', errors.EndpointUnsupported),
    # llama-cpp-python 0.3.36
    (401, b'{"detail":"Invalid API key"}', errors.KeyRefused),
    (404, b"<html>not here</html>", errors.EndpointUnsupported),
    (405, b"", errors.EndpointUnsupported),
    (308, b"", errors.EndpointUnsupported),
    (413, b"", errors.PromptTooLong),
    (408, b"", errors.Timeout),
    (504, b"<html>gateway timeout</html>", errors.Timeout),
    (429, b"", errors.RateLimited),
    (500, b"", errors.Unavailable),
    (502, b"\xff\xfe", errors.Unavailable),
    (503, b"[]", errors.Unavailable),
    (529, _body(None, "overloaded", type="overloaded_error"), errors.Unavailable),
    (400, b"what?", errors.Refused),
    (418, b"null", errors.Refused),
    (200, _body(429), errors.RateLimited),
    (200, _body("1113"), errors.QuotaExhausted),
    (200, _body("strange"), errors.Unavailable),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected"), CASES)
def test_the_body_decides_before_the_status(status: int, body: bytes, expected: type[errors.LlmError]) -> None:
    assert type(classify(ENDPOINT, status, {}, body)) is expected


def nested(width: int, depth: int) -> Any:
    return "x" if depth == 0 else [nested(width, depth - 1)] * width


@pytest.mark.parametrize(
    "said",
    [nested(20, 3), nested(1, 900), "x" * 500_000, [{"code": "x" * 1000}] * 20, {"code": nested(1, 900), "msg": "no"}],
)
def test_reading_an_error_takes_bounded_work(said: Any) -> None:
    """Lines of code that run in the reader, which do not depend on how fast the machine is."""
    body = json.dumps({"error": said}).encode()
    lines = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count if frame.f_code.co_name == "_read" else None

    sys.settrace(count)
    try:
        error = classify(ENDPOINT, 503, {}, body)
    finally:
        sys.settrace(None)
    assert type(error) is errors.Unavailable and len(str(error)) < 800
    assert lines < 20 * error_responses.MOST_PARTS


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
def test_no_sentence_repeats_the_key_or_hidden_characters(status: int) -> None:
    said = f"Bad key {KEY} and Bearer sk-otherkey123 \u202e\u0007" + "x" * 5000
    error = classify(ENDPOINT, status, {}, _body(None, said))
    assert KEY not in str(error) and "otherkey" not in str(error) and "\u202e" not in str(error)
    assert "glm" in str(error) and len(str(error)) < 800


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"llm_provider-retry-after": "3"}, 3),
        ({"llm_provider-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "60", "rate_limit_type": "requests"}, 60),  # of LiteLLM's proxy
        ({"retry-after": "60", "rate_limit_type": "max_parallel_requests"}, None),
        ({"retry-after": "-4"}, 0),
        ({"retry-after": "1e300"}, 86_400),  # which would be written down for every worker
        ({"retry-after-ms": "90000000000"}, 86_400),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 86_400),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    error = classify(ENDPOINT, 429, headers, b"")
    assert isinstance(error, errors.RateLimited) and error.retry_after == seconds


def test_retry_after_as_a_date_without_the_servers_clock() -> None:
    seconds = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert seconds is not None and 58 <= seconds <= 61
