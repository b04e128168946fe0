"""Questions that a model answers in its own words, and what is kept of the words: one clean line of bounded length.

The answer is {"text": "…"}. A model that does not keep to that is understood where its text cannot be taken for
anything else. Whatever it says is data: it is stored, embedded and shown as text, and never becomes a part of another
prompt, of markup or of a statement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import json_repair
import orjson

from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.answers import LONGEST, LONGEST_BROKEN
from llmser_tasks.llm.prompts import DATA, QuestionFormat, shown_history
from llmser_tasks.llm.question import Answer, Question, messages_of
from llmser_tasks.llm.server_cases.finishes import is_cut_off
from llmser_tasks.llm.thinking import TEXT, aloud

Source = Literal["strict", "repaired", "prose"]

LONGEST_TEXT = 1_000  # characters kept
LEAST_LETTERS = 8  # with fewer, such as "N/A", it says nothing of anybody
MOST_TOKENS = 384  # of a paragraph, with room to spare
USUAL_TOKENS = 110.0  # of a paragraph

SCHEMA = orjson.dumps({
    "type": "object", "properties": {TEXT: {"type": "string"}}, "required": [TEXT], "additionalProperties": False,
})  # fmt: skip
RULES = (
    f'{DATA} Answer with one JSON object and nothing else: {{"{TEXT}": "…"}}, holding what you have to say as one '
    "paragraph without line breaks."
)

_BEGINNING = re.compile(rf"[\"']?\b{TEXT}[\"']?\s*:\s*(?=\")")
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?$")
# How a model begins that declines; a text about somebody else begins otherwise.
_REFUSAL = re.compile(
    r"(?:i['’]?m|i am) (?:very |so )?(?:sorry|unable|not able)\b|sorry\b|i apologi[sz]e\b|unfortunately\b|as an ai\b"
    r"|(?:i|we) (?:can['’]?t|cannot|do not|don['’]t)\b",
    re.I,
)
_SENTENCE = re.compile(r".*[.!?…。！？]", re.S)


@dataclass(frozen=True)
class TextAnswer(Answer):
    """What a reply says to a question for a text.

    Attributes:
        text: one line of visible text; empty where nothing usable was said.
        source: how it was read.
    """

    text: str = ""
    source: Source | None = None

    @property
    def usable(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True, kw_only=True)
class TextQuestion(Question):
    """A question whose answer is a text."""

    @property
    def schema(self) -> bytes:
        return SCHEMA

    @property
    def usual_tokens(self) -> float:
        return USUAL_TOKENS

    def read(self, content: str, finish_reason: str | None) -> TextAnswer:
        return parse_text(content, finish_reason)


def build_text_question(
    *,
    step: str,
    prompt_version: str,
    instructions: str,
    history: Sequence[str | None],
    put: QuestionFormat,
) -> TextQuestion:
    """Put a history into a question.

    Args:
        instructions: what to write about it, in our own words; how to write the answer is added here.
        history: titles or longer texts, oldest first. None: no title.
    """
    block = {"history": shown_history(history, put)}
    return TextQuestion(
        step=step,
        prompt_version=prompt_version,
        messages=messages_of(instructions, RULES, block),
        max_tokens=put.max_tokens or MOST_TOKENS,
        temperature=put.temperature,
    )


def parse_text(content: str, finish_reason: str | None = "stop") -> TextAnswer:
    """The text of a reply.

    Args:
        finish_reason: one that says that the reply was cut off (`finishes.is_cut_off`): what it had begun to answer
            counts up to its last whole sentence; prose may be a draft, so it counts for nothing.
    """
    said = aloud(content)
    cut_off = is_cut_off(finish_reason) or len(said) > LONGEST
    said = said[:LONGEST]
    raw, source = _read(said, cut_off)
    if source == "strict" and said != content.strip():
        source = "repaired"
    text = clean_title(raw, LONGEST_TEXT) or ""
    if sum(map(str.isalpha, text)) < LEAST_LETTERS or _REFUSAL.match(text):
        return TextAnswer(content, finish_reason)
    return TextAnswer(content, finish_reason, text, source)


def _read(said: str, cut_off: bool) -> tuple[str, Source | None]:
    """The text as it was written, and how it was found."""
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        pass
    else:
        return _of_json(value)
    if starts := list(_BEGINNING.finditer(said)):
        return _of_broken_json(said[starts[-1].end() :], cut_off), "repaired"
    if cut_off or said.startswith(("{", "[")):
        return "", None
    return said, "prose"


def _of_json(value: Any) -> tuple[str, Source | None]:
    """Of a reply that is one whole JSON value: its field, or the only text that there is."""
    if isinstance(value, dict) and list(value) == [TEXT] and isinstance(value[TEXT], str):
        return value[TEXT], "strict"
    if isinstance(value, str):
        return value, "repaired"
    if isinstance(value, dict):
        texts = [value[TEXT]] if isinstance(value.get(TEXT), str) else [v for v in value.values() if isinstance(v, str)]
        if len(texts) == 1:
            return texts[0], "repaired"
    return "", None


def _of_broken_json(tail: str, cut_off: bool) -> str:
    """The string that begins here, in JSON that is cut off, slightly wrong or amid other words."""
    try:
        whole, end = json.JSONDecoder(strict=False).raw_decode(tail)
    except (ValueError, RecursionError):
        pass
    else:
        ends_here = tail[end:].lstrip()[:1] in {"", ",", "}", "]"}
        return str(whole) if ends_here else _with_quotes(tail)
    begun = _HALF_ESCAPE.sub(r"\1", tail[1 : LONGEST_BROKEN + 1])
    try:
        text = str(json.loads(f'"{begun}"', strict=False))
    except ValueError:
        return ""
    if cut_off and (whole_sentences := _SENTENCE.match(text)):
        return whole_sentences[0]
    return text


def _with_quotes(tail: str) -> str:
    """A string in which quotation marks stand as they are."""
    try:
        found = json_repair.loads(f'{{"{TEXT}": {tail[:LONGEST_BROKEN]}')
    except (ValueError, RecursionError):
        return ""
    return str(found.get(TEXT) or "") if isinstance(found, dict) else ""
