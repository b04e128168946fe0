"""Responses as servers sent them: an example of every row of `server_cases`, and of every place for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmser_tasks.llm.server_cases import Case
from llmser_tasks.llm.server_cases.finishes import FINISHES
from llmser_tasks.llm.server_cases.refusals import REFUSALS
from llmser_tasks.llm.thinking import THINKING

Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A response as it came over the wire.

    Attributes:
        server: who sent it.
        case: what it means.
        body: JSON, or raw bytes.
        picks: the ids that are read, where it is an answer.
        source: where it was seen.
        not_in_a_batch: why it cannot stand in a batch's file; empty: it can.
    """

    server: str
    case: Case
    status: int
    body: Any
    source: str
    picks: tuple[str, ...] = ()
    not_in_a_batch: str = ""

    @property
    def name(self) -> str:
        return f"{self.server}: {self.status}, {self.case.value}"


def _says(message: Json, finish: str | None, usage: Json | None = None, **choice: Any) -> Json:
    """A chat completion with this message."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish} | choice],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def _fails(code: Any, message: str, **more: Any) -> Json:
    return {"error": {"code": code, "message": message} | more}


_ANSWER = '{"picks": ["c02", "c01"]}'
_DRAFT = 'First the hat. Maybe {"picks": ["c03", "c04"]} but no, those are wrong, let me'
_THOUGHT = {"prompt_tokens": 100, "completion_tokens": 72, "completion_tokens_details": {"reasoning_tokens": 72}}
_ONLINE = "a batch's lines come whole, or not at all"


def _answers() -> Iterator[Example]:
    """Answers, wherever they are put."""

    def read(server: str, message: Json, source: str, finish: str = "stop") -> Example:
        return Example(server, Case.ANSWER, 200, _says(message, finish), source, ("c02", "c01"))

    yield read("OpenAI", {"content": _ANSWER}, "its documentation")
    yield read(
        "Mistral",
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": _DRAFT}]},
                {"type": "text", "text": _ANSWER},
            ]
        },
        "its documentation: Magistral's content in parts",
    )
    yield read("DeepSeek", {"content": _ANSWER, "reasoning_content": _DRAFT}, "its documentation: deepseek-reasoner")
    yield read("vLLM", {"content": None, "reasoning_content": _ANSWER}, "vllm#19222, #16182: thinking off, a schema on")
    yield read("vLLM, Ollama", {"content": "", "reasoning": f"\n{_ANSWER}\n"}, "vllm#50948, ollama#15288")
    yield read(
        "OpenAI",
        {
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "answer", "arguments": _ANSWER}}],
        },
        "its documentation",
        "tool_calls",
    )
    yield read(
        "OpenAI, before tools",
        {"content": None, "function_call": {"name": "answer", "arguments": _ANSWER}},
        "its documentation",
        "function_call",
    )
    yield read("xAI", {"content": _ANSWER}, "genkit#6259", "end_turn")
    yield read("a router", {"content": _ANSWER}, "pydantic-ai#2844: words outside of OpenAI's", "some_new_word")
    for tag, closing in THINKING:
        yield read("thinking in the text", {"content": f"{tag}{_DRAFT}{closing}\n{_ANSWER}"}, "chat templates")
    yield read(
        "gpt-oss",
        {
            "content": f"<|channel|>analysis<|message|>{_DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>"
            f"{_ANSWER}<|return|>"
        },
        "openai/harmony: shown raw where a server does not parse it",
    )


def _passing() -> Iterator[Example]:
    """Failures in a success's clothes."""

    def none(server: str, message: Json, finish: str | None, source: str, **choice: Any) -> Example:
        return Example(server, Case.NO_ANSWER, 200, _says(message, finish, **choice), source)

    yield none("OpenRouter", {"content": '{"picks": ["c01"'}, "error", "bifrost#5425")
    yield none(
        "OpenRouter",
        {"content": ""},
        "stop",
        "its documentation: an error in the choice",
        error={"code": 502, "message": "Upstream error from AtlasCloud"},
    )
    yield none("vLLM", {"content": '{"picks": ["c0'}, "abort", "a request that the engine dropped")
    yield none("DeepSeek", {"content": '{"picks": ["c01"]'}, "insufficient_system_resource", "its documentation")
    yield none("GLM", {"content": ""}, "network_error", "docs.bigmodel.cn")
    yield none("Ollama", {"content": None, "refusal": None}, "stop", "ollama#13371")
    yield none("Ollama", {"content": ""}, "load", "oh-my-pi#7465")
    yield none("vLLM, gpt-oss", {"content": None, "reasoning": "We need to pick."}, "stop", "vllm#45736")
    yield none("vLLM, a draft alone", {"content": None, "reasoning": _DRAFT}, "stop", "vllm-ascend#9131")
    yield none("Gemini", {"content": None}, "function_call_filter: MALFORMED_FUNCTION_CALL", "python-genai#1836")
    yield none("OpenAI", {"content": None, "tool_calls": []}, "tool_calls", "a call without a function")
    yield none("LMDeploy", {"content": ""}, None, "xtuner#1755: no finish reason after an abort")


def _cut_off() -> Iterator[Example]:
    """The room was used up by thinking."""

    def cut(server: str, message: Json, source: str, finish: str = "length") -> Example:
        return Example(server, Case.CUT_OFF, 200, _says(message, finish, _THOUGHT), source)

    yield cut("OpenAI", {"content": ""}, "its documentation: o-series, gpt-5")
    yield cut("vLLM", {"content": None, "reasoning": _DRAFT}, "vllm#52640")
    yield cut("DeepSeek", {"content": "", "reasoning_content": _DRAFT}, "its documentation")
    yield cut("vLLM, a draft in form", {"content": None, "reasoning": _ANSWER}, "vllm#52640: maybe not the last word")
    yield cut("Gemini", {"content": None}, "python-genai#811", "MAX_TOKENS")
    for tag, _ in THINKING:
        yield cut("thinking in the text", {"content": f"{tag}{_DRAFT}"}, "fault 23: a draft is no answer")
    yield cut("thinking without a tag", {"content": _DRAFT}, "fault 23: a draft is no answer")
    yield cut("gpt-oss", {"content": f"<|channel|>analysis<|message|>{_DRAFT}"}, "openai/harmony")
    yield Example(
        "OpenAI, Azure",
        Case.CUT_OFF,
        400,
        _fails(
            None,
            "Could not finish the message because max_tokens or model output limit was reached. Please try again with "
            "higher max_tokens.",
            type="invalid_request_error",
        ),
        "many reports: reasoning models with little room",
    )


def _settled() -> Iterator[Example]:
    """Questions that nobody will ever answer."""
    for server, finish in (
        ("OpenAI, Azure", "content_filter"),
        ("GLM", "sensitive"),
        ("Anthropic", "refusal"),
        ("Gemini", "content_filter: RECITATION"),
        ("Gemini", "SAFETY"),
    ):
        yield Example(server, Case.FILTERED, 200, _says({"content": None}, finish), "its documentation")
    yield Example("OpenAI", Case.FILTERED, 200, _says({"content": None, "refusal": "No."}, "stop"), "its documentation")
    yield Example(
        "Azure",
        Case.FILTERED,
        400,
        _fails(
            "content_filter",
            "The response was filtered due to the prompt triggering Azure OpenAI's content management "
            "policy. Please modify your prompt and retry.",
            type=None,
            param="prompt",
            status=400,
            innererror={
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
            },
        ),
        "compl-ai#20",
    )
    yield Example(
        "GLM", Case.FILTERED, 400, _fails("1301", "系统检测到输入或生成内容可能包含不安全或敏感内容"), "api-code"
    )
    yield Example("OpenRouter", Case.FILTERED, 403, _fails(403, "Your input was flagged"), "its documentation")
    yield Example("z.ai", Case.TOO_LONG, 200, _says({"content": ""}, "model_context_window_exceeded"), "opencode#18813")
    yield Example(
        "vLLM",
        Case.TOO_LONG,
        400,
        {
            "object": "error",
            "type": "BadRequestError",
            "code": 400,
            "message": "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (6568 "
            "in the messages, 48 in the completion). Please reduce the length of the messages or completion.",
        },
        "ogx#4534",
    )
    yield Example(
        "llama.cpp",
        Case.TOO_LONG,
        400,
        _fails(400, "the request exceeds the available context size", type="exceed_context_size_error", n_ctx=4096),
        "its server's README",
    )


def _errors() -> Iterator[Example]:
    """Errors that look like errors."""
    yield Example(
        "OpenRouter",
        Case.RATE_LIMIT,
        429,
        _fails(
            429,
            "Provider returned error",
            metadata={"raw": "temporarily rate-limited upstream", "provider_name": "BaseTen"},
        ),
        "open-webui/computer#293",
    )
    yield Example(
        "Gemini",
        Case.RATE_LIMIT,
        429,
        [{"error": {"code": 429, "message": "Resource has been exhausted", "status": "RESOURCE_EXHAUSTED"}}],
        "its OpenAI form answers with a list",
    )
    yield Example(
        "Groq",
        Case.NO_ANSWER,
        400,
        _fails("json_validate_failed", "Failed to generate JSON.", failed_generation="{"),
        "many reports",
    )
    yield Example("llama.cpp", Case.SERVER_ERROR, 503, _fails(503, "Loading model", type="unavailable_error"), "README")
    yield Example(
        "Ollama",
        Case.SERVER_ERROR,
        500,
        {"error": "model requires more system memory (44.0 GiB) than is available (7.6 GiB)"},
        "reports",
    )
    yield Example(
        "Anthropic",
        Case.SERVER_ERROR,
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "documentation",
    )
    yield Example(
        "LiteLLM", Case.TIMEOUT, 408, _fails("408", "litellm.Timeout: This is a mock timeout error"), "its proxy 1.106"
    )
    yield Example("nginx", Case.TIMEOUT, 504, b"<html>gateway timeout</html>", "seen", not_in_a_batch=_ONLINE)
    yield Example("Cloudflare", Case.TIMEOUT, 524, _fails(524, "A timeout occurred"), "documentation")
    yield Example("OpenRouter", Case.SERVER_ERROR, 200, _fails(502, "Provider returned error"), "documentation")
    yield Example("9router", Case.SERVER_ERROR, 200, {"id": None, "choices": None}, "9router#2727")
    yield Example("a proxy", Case.SERVER_ERROR, 200, b"<html>login here</html>", "seen", not_in_a_batch=_ONLINE)
    yield Example(
        "Azure",
        Case.KEY,
        401,
        _fails("401", "Access denied due to invalid subscription key or wrong API endpoint."),
        "documentation",
    )
    yield Example(
        "Gemini",
        Case.KEY,
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        "continue#10748",
    )
    yield Example("GLM", Case.QUOTA, 429, _fails("1113", "您的账户已欠费,请充值后重试"), "api-code")
    yield Example("DeepSeek", Case.QUOTA, 402, _fails("invalid_request_error", "Insufficient Balance"), "documentation")
    yield Example(
        "Azure",
        Case.UNSUPPORTED,
        404,
        _fails("DeploymentNotFound", "The API deployment for this resource does not exist."),
        "chatbox#646",
    )
    yield Example("Ollama", Case.UNSUPPORTED, 404, {"error": "model 'x' not found, try pulling it first"}, "seen")
    yield Example(
        "DashScope",
        Case.UNSUPPORTED,
        400,
        _fails(
            "invalid_parameter_error",
            "parameter.enable_thinking must be set to false for non-streaming calls",
            type="invalid_request_error",
        ),
        "many reports",
    )
    yield Example(
        "DashScope",
        Case.UNSUPPORTED,
        400,
        _fails(
            "invalid_parameter_error",
            "This model only support stream mode, please enable the stream parameter to access the model.",
            type="invalid_request_error",
        ),
        "help.aliyun.com, error codes",
    )
    yield Example("an unexplained 400", Case.REFUSED, 400, _fails("1210", "API 调用参数有误"), "GLM's api-code")


def _forms() -> Iterator[Example]:
    """Ways of asking that are refused."""

    def form(server: str, status: int, body: Json, source: str) -> Example:
        return Example(server, Case.FORM, status, body, source)

    yield form(
        "OpenAI",
        400,
        _fails(None, "Unrecognized request argument supplied: max_tokens", type="invalid_request_error"),
        "litellm#10791",
    )
    yield form(
        "OpenAI",
        400,
        _fails(
            "unsupported_parameter",
            "Unsupported parameter: 'max_tokens' is not supported with "
            "this model. Use 'max_completion_tokens' instead.",
            param="max_tokens",
        ),
        "documentation",
    )
    yield form(
        "OpenAI",
        400,
        _fails(
            "unsupported_value",
            "'temperature' does not support 0 with this model. Only the default (1) value is supported.",
            param="temperature",
        ),
        "documentation",
    )
    yield form(
        "Mistral, pydantic",
        422,
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
                for name in ("max_tokens", "temperature", "response_format")
            ]
        },
        "servers that forbid what they do not know",
    )
    yield form(
        "OpenRouter",
        404,
        _fails(
            404,
            "No endpoints found that can handle the requested parameters. To learn more "
            "about provider routing, visit: https://openrouter.ai/docs/",
        ),
        "many reports",
    )
    yield form(
        "LiteLLM",
        400,
        _fails(
            "400",
            "litellm.UnsupportedParamsError: ollama does not support parameters: ['response_format'], for model=x",
            type="invalid_request_error",
        ),
        "RouteLLM#72",
    )
    yield Example(
        "OpenAI",
        Case.LENGTH,
        400,
        _fails(
            None,
            "max_tokens is too large: 32768. This model supports at most 16384 completion tokens, whereas you provided "
            "32768.",
            param="max_tokens",
        ),
        "documentation",
    )
    yield Example(
        "DeepSeek",
        Case.LENGTH,
        400,
        _fails("invalid_request_error", "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        "reports",
    )
    yield Example(
        "DashScope",
        Case.LENGTH,
        400,
        _fails("invalid_parameter_error", "Range of max_tokens should be [1, 8192]"),
        "help.aliyun.com, error codes",
    )


def examples() -> list[Example]:
    """All of them, and one for each finish reason, code and status."""
    found = [*_answers(), *_passing(), *_cut_off(), *_settled(), *_errors(), *_forms()]
    for finish in FINISHES:
        for word in finish.words.split():
            found.append(
                Example(f"finish reason {word}", finish.case, 200, _says({"content": ""}, word), finish.source)
            )
    for row in REFUSALS:
        for code in row.codes.split():
            found.append(Example(f"code {code}", row.case, 400, _fails(code, "no"), row.source))
        if not row.codes and not row.wording and row.statuses:
            statuses = [row.statuses[18]] if isinstance(row.statuses, range) else row.statuses
            away = "a batch's lines do not lead elsewhere" if 318 in statuses else ""
            found += [Example("status", row.case, status, {}, row.source, not_in_a_batch=away) for status in statuses]
    return found
