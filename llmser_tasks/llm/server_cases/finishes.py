"""What the finish reason of a chat completion means."""

from __future__ import annotations

from dataclasses import dataclass

from llmser_tasks.llm.server_cases import Case


@dataclass(frozen=True)
class Finish:
    """Finish reasons of a chat completion (HTTP 200), lower case, without what stands behind a colon.

    Attributes:
        case: what the word means where the message holds no answer; with one, it is read.
        in_any_case: it means that even where there is text, which is a piece of an answer that broke off.
    """

    words: str
    case: Case
    source: str
    in_any_case: bool = False


FINISHES = (
    Finish(
        "stop end_turn eos eos_token stop_sequence complete completed done",
        Case.NO_ANSWER,
        "OpenAI and all that copy it; end_turn: xAI, and Anthropic behind routers; eos_token: TGI; an empty stop: "
        "Ollama (ollama#13371, #15288), vLLM's harmony parser (vllm#45736)",
    ),
    Finish("tool_calls function_call tool_use", Case.NO_ANSWER, "OpenAI: the answer came as a tool call's arguments"),
    Finish(
        "length max_tokens model_length max_output_tokens max_completion_tokens",
        Case.CUT_OFF,
        "OpenAI, vLLM, llama.cpp: thinking counts (vllm#52640: content null, reasoning there); MAX_TOKENS: Gemini "
        "behind routers (python-genai#811); model_length: Mistral",
    ),
    Finish(
        "model_context_window_exceeded",
        Case.TOO_LONG,
        "z.ai and Anthropic (opencode#18813): prompt and answer do not fit together",
    ),
    Finish(
        "content_filter sensitive refusal safety recitation blocklist prohibited_content spii image_safety model_armor "
        "guardrail_intervened",
        Case.FILTERED,
        "content_filter: OpenAI, Azure, Gemini's OpenAI form (`content_filter: RECITATION`); sensitive: GLM; refusal: "
        "Anthropic; the others: Gemini and Bedrock behind routers (MacPaw/OpenAI#312)",
    ),
    Finish(
        "error failed abort aborted cancelled canceled insufficient_system_resource network_error resource-exhausted "
        "resource_exhausted rate_limit_exceeded service_unavailable timeout",
        Case.NO_ANSWER,
        "error: OpenRouter's documentation, bifrost#5425; abort: vLLM, SGLang when a request is dropped; "
        "insufficient_system_resource: DeepSeek's documentation; network_error: GLM's",
        in_any_case=True,
    ),
    Finish(
        "function_call_filter malformed_function_call malformed_response unexpected_tool_call no_image other load "
        "unload unknown",
        Case.NO_ANSWER,
        "Gemini's OpenAI form says `function_call_filter: MALFORMED_FUNCTION_CALL` (python-genai#1836); "
        "load, unload: Ollama's done_reason where nothing was generated (oh-my-pi#7465)",
    ),
)
_FINISH_OF = {word: finish for finish in FINISHES for word in finish.words.split()}


def finished(reason: str | None, has_answer: bool) -> Case:
    """What a chat completion with this finish reason means. An unknown word counts as no word."""
    finish = _FINISH_OF.get((reason or "stop").partition(":")[0].strip().lower())
    if has_answer and not (finish and finish.in_any_case):
        return Case.ANSWER
    return finish.case if finish else Case.NO_ANSWER


def is_cut_off(reason: str | None) -> bool:
    """Whether it says that the reply's end is missing."""
    return reason is not None and finished(reason, has_answer=False) in {Case.CUT_OFF, Case.TOO_LONG}
