"""What a model says aloud: its text without the thinking that some servers leave in it."""

from __future__ import annotations

import re

import orjson

# Openings of thinking and their ends, as models' templates write them.
THINKING = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM-4.5 and most others
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # Gemini's OpenAI form
    ("<reasoning>", "</reasoning>"),
    ("<analysis>", "</analysis>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
)

TEXT = "text"
FIELDS = {"picks": list, "item": str, TEXT: str}  # in which answers stand, and what they are
LONGEST_THINKING = 200_000  # characters looked through for the answer behind it: 50,000 tokens

_FENCE = re.compile(r"^```[a-z]*", re.I)
_OPENING = re.compile("|".join(re.escape(opening) for opening, _ in THINKING), re.I)
_CLOSING = re.compile("|".join(re.escape(closing) for _, closing in THINKING), re.I)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_MARKS = re.compile(r"<\|(?:start|end|return|message|channel|constrain)\|>")


def aloud(text: str) -> str:
    """The text without its thinking and code fence; nothing where it ended while still thinking.

    What stands within thinking is a draft, however much it looks like an answer. An ending without its beginning
    counts, because many templates write the beginning themselves.
    """
    text = text[:LONGEST_THINKING]
    if not ("<" in text or "◁" in text or text.startswith("analysis") or "think]" in text.lower()):
        return _unfenced(text)  # as most
    if channels := list(_CHANNEL.finditer(text)):  # gpt-oss: analysis, commentary, final
        if channels[-1][1].lower() != "final":
            return ""
        text = _MARKS.split(text[channels[-1].end() :].removeprefix("<|message|>").lstrip())[0]
    elif text.startswith("analysis") and "assistantfinal" in text:  # the same, its marks lost
        text = text.rpartition("assistantfinal")[2]
    closings = list(_CLOSING.finditer(text))
    if closings:
        text = text[closings[-1].end() :]
    if _OPENING.search(text):
        return ""
    return _unfenced(text)


def _unfenced(text: str) -> str:
    text = text.strip()
    return _FENCE.sub("", text).removesuffix("```").strip() if "```" in text else text


def is_answer(text: str) -> bool:
    """Whether a text is an answer in its whole form and nothing else: no draft, nothing cut off."""
    try:
        value = orjson.loads(aloud(text))
    except orjson.JSONDecodeError:
        return False
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((name, said),) = value.items()
    return name in FIELDS and isinstance(said, FIELDS[name])
