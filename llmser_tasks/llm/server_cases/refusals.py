"""What an error response means.

Rows are tried from the top; the first whose sign is there decides. A code in a body says more than its wording, and
both say more than the status: GLM sends "your account is in arrears" as 429, others send it as 400, 402 or 403.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from llmser_tasks.llm.server_cases import Case


@dataclass(frozen=True)
class Refusal:
    """How an error is known.

    Attributes:
        codes: codes and types in the body, lower case, any of them.
        wording: a pattern in what the body says.
        statuses: HTTP statuses under which it holds; empty: any but 2xx, and for codes 2xx, too.
        advice: what a person has to do, where the usual sentence would mislead.
    """

    case: Case
    source: str
    codes: str = ""
    wording: str = ""
    statuses: tuple[int, ...] | range = ()
    advice: str = ""


_4XX = range(400, 500)
_FORM_STATUSES = (400, 404, 422, 500, 501)

REFUSALS = (
    # Thinking and its length, before what merely names the parameter
    Refusal(
        Case.CUT_OFF,
        "OpenAI and Azure, reasoning models: the answer never began",
        wording=r"max_tokens or model output limit was reached|could not finish the message because max_tokens",
        statuses=_4XX,
    ),
    Refusal(
        Case.UNSUPPORTED,
        "DashScope, Qwen3's open weights: thinking needs streaming (help.aliyun.com, error codes)",
        wording=r"enable_thinking must be set to false",
        statuses=_4XX,
        advice='this model thinks only in streams: put {"enable_thinking": false} into extra_body, in the '
        "connection's extra",
    ),
    Refusal(
        Case.UNSUPPORTED,
        "DashScope: QwQ, glm-4.5 (help.aliyun.com, error codes)",
        wording=r"only support(s)? stream",
        statuses=_4XX,
        advice="this model answers only in streams; choose another",
    ),
    Refusal(
        Case.LENGTH,
        "OpenAI: max_tokens is too large; DeepSeek: the valid range of max_tokens is; DashScope: Range of max_tokens "
        "should be; Scaleway (416): is limited for this model",
        wording=r"max(_completion)?_tokens\W{0,3}(is too large|value|is limited|must be less|exceeds)"
        r"|range of max(_completion)?_tokens"
        r"|max(_completion)?_tokens.{0,40}(less than or equal|at most|maximum allowed)",
        statuses=(400, 416, 422),
    ),
    # Ways of asking
    Refusal(
        Case.FORM,
        "OpenRouter with require_parameters: no provider takes all of them; nothing is wrong with URL or model",
        wording=r"no endpoints found that (can handle|support) the (requested|provided) (parameters|'?response_format)",
        statuses=_FORM_STATUSES,
    ),
    Refusal(
        Case.FORM,
        "vLLM, llama.cpp, transformers, TGI, Mistral, LiteLLM (UnsupportedParamsError), GLM; 500 at the first use of a "
        "schema means that it is not known",
        wording=r"response_format|json_schema|json_object|guided|structured output|grammar",
        statuses=(400, 422, 500, 501),
    ),
    # By code. Digits: GLM (docs.bigmodel.cn, api-code)
    Refusal(
        Case.KEY,
        "GLM; OpenAI; Azure (`401`); DashScope (InvalidApiKey); Gemini (API_KEY_INVALID); LiteLLM (no_db_connection: a "
        "key that it cannot look up)",
        codes="1000 1001 1002 1003 1004 1110 1111 1220 1311 invalid_api_key invalidapikey api_key_invalid "
        "incorrect_api_key invalid_authentication_error authentication_error permission_error account_deactivated "
        "token_expired no_db_connection",
    ),
    Refusal(
        Case.KEY,
        "Gemini's OpenAI form: 400 INVALID_ARGUMENT (continue#10748)",
        wording=r"api key not valid|invalid subscription key",
        statuses=_4XX,
    ),
    Refusal(
        Case.QUOTA,
        "GLM, as 429; OpenAI; DashScope (Arrearage); Moonshot (exceeded_current_quota_error); new-api "
        "(insufficient_user_quota); LiteLLM (budget_exceeded)",
        codes="1112 1113 1121 1304 1308 1309 1310 1313 insufficient_quota billing_hard_limit_reached "
        "billing_not_active insufficient_balance insufficient_user_quota exceeded_current_quota_error arrearage "
        "quota_exceeded budget_exceeded access_terminated credit_balance_exhausted",
    ),
    Refusal(
        Case.UNSUPPORTED,
        "GLM; OpenAI; Azure (DeploymentNotFound)",
        codes="1211 1212 1221 1222 model_not_found deploymentnotfound unsupported_model invalid_model",
    ),
    Refusal(
        Case.FILTERED,
        "GLM; OpenAI; Azure (code content_filter, innererror ResponsibleAIPolicyViolation: helm#3327); LiteLLM; "
        "DashScope; new-api",
        codes="1300 1301 content_filter content_policy_violation responsibleaipolicyviolation "
        "contentpolicyviolationerror data_inspection_failed datainspectionfailed sensitive_words_detected "
        "prompt_blocked",
    ),
    Refusal(
        Case.TOO_LONG,
        "GLM; OpenAI; LiteLLM; llama.cpp (exceed_context_size_error)",
        codes="1261 context_length_exceeded contextwindowexceedederror exceed_context_size_error "
        "string_above_max_length tokens_too_long characters_too_long",
    ),
    Refusal(
        Case.RATE_LIMIT,
        "GLM, which limits requests in flight; OpenAI; Moonshot; DashScope; Gemini (RESOURCE_EXHAUSTED)",
        codes="1302 1303 1305 1312 rate_limit_exceeded rate_limit_reached_error rate_limit_error "
        "engine_overloaded_error requests tokens throttling throttling.ratequota throttling.allocationquota "
        "limit_requests resource_exhausted",
    ),
    Refusal(
        Case.NO_ANSWER,
        "Groq: what the model wrote is not the JSON asked for, as 400; the same question succeeds the next time",
        codes="json_validate_failed",
    ),
    Refusal(
        Case.SERVER_ERROR,
        "GLM; OpenAI; Anthropic (overloaded_error)",
        codes="500 1120 1200 1230 1234 server_error internal_server_error overloaded_error unavailable_error",
    ),
    # By wording
    Refusal(
        Case.TOO_LONG,
        "vLLM (also `max_tokens must be at least 1, got -186`: vllm#4667), llama.cpp, OpenAI, LiteLLM, GLM",
        wording=r"context[ _]?(window|length|size)(?!_fallback)|prompt is too long|input length|too many tokens"
        r"|reduce the length|max_tokens must be at least 1, got -|超长",
        statuses=_4XX,
    ),
    Refusal(
        Case.FILTERED,
        "Azure, OpenAI, LiteLLM, OpenRouter (403, flagged), GLM",
        wording=r"content[ _]?(filter|policy|management policy)|flagged|敏感",
        statuses=_4XX,
    ),
    Refusal(
        Case.QUOTA,
        "DeepSeek (402), OpenAI, GLM; OpenRouter: can only afford N",
        wording=r"insufficient balance|in arrears|exceeded your current quota|can only afford|欠费|余额不足",
        statuses=_4XX,
    ),
    Refusal(
        Case.FORM,
        "OpenAI: Unsupported parameter, Unrecognized request argument supplied; Mistral, pydantic: Extra inputs are "
        "not permitted; xAI: Argument not supported; LiteLLM: does not support parameters",
        wording=r"max_completion_tokens|max_tokens|temperature",
        statuses=(400, 422),
    ),
    Refusal(
        Case.UNSUPPORTED,
        "OpenAI, Ollama, LiteLLM, transformers",
        wording=r"\bmodel\b.{0,120}(not (found|exist)|does not exist|unknown|no such)|invalid model name"
        r"|server is pinned to",
        statuses=(400, 404),
    ),
    # By status
    Refusal(Case.KEY, "RFC 9110; 403 of OpenRouter, GLM: not allowed", statuses=(401, 403)),
    Refusal(Case.QUOTA, "DeepSeek, OpenRouter: payment required", statuses=(402,)),
    Refusal(Case.UNSUPPORTED, "no such URL, method or model", statuses=(404, 405, 410)),
    Refusal(Case.TIMEOUT, "LiteLLM's proxy, nginx, Cloudflare (524)", statuses=(408, 504, 524)),
    Refusal(Case.TOO_LONG, "nginx: the request is too large", statuses=(413,)),
    Refusal(Case.SERVER_ERROR, "too early (RFC 8470)", statuses=(425,)),
    Refusal(Case.RATE_LIMIT, "all; a body without a code", statuses=(429,)),
    Refusal(Case.UNSUPPORTED, "a redirect, which could carry the key to another host", statuses=range(300, 400)),
    Refusal(Case.REFUSED, "a 4xx that nothing explains", statuses=_4XX),
    Refusal(Case.SERVER_ERROR, "5xx: llama.cpp loading its model, Ollama without memory, Anthropic overloaded (529)"),
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I)


@cache
def _words(codes: str) -> frozenset[str]:
    return frozenset(codes.split())


def refused(status: int, codes: Collection[str], text: str) -> Refusal:
    """The row for an error.

    Args:
        codes: every code and type that its body names, lower case.
        text: what it says.
    """
    for row in REFUSALS:
        if row.statuses and status not in row.statuses:
            continue
        if row.codes and _words(row.codes).isdisjoint(codes):
            continue
        if row.wording and not _compiled(row.wording).search(text):
            continue
        return row
    raise AssertionError("unreachable: the last row always fits")


@dataclass(frozen=True)
class Parameter:
    """Something that we send and servers may refuse: the words by which they call it."""

    name: str
    wording: str


PARAMETERS = (
    Parameter("max_completion_tokens", r"max_completion_tokens"),
    Parameter("max_tokens", r"(?<!_)max_tokens"),
    Parameter("temperature", r"temperature"),
    Parameter("response_format", r"response_format|json_schema|json_object|guided|structured output|grammar"),
)
_INSTEAD = re.compile(r"use\W{0,3}max_completion_tokens|max_completion_tokens\W{0,3}instead", re.I)


def named_parameters(text: str) -> frozenset[str]:
    """Which of our parameters a refusal names. Of "use max_completion_tokens instead" it is not that one."""
    named = frozenset(one.name for one in PARAMETERS if _compiled(one.wording).search(text))
    return named - {"max_completion_tokens"} if _INSTEAD.search(text) else named
