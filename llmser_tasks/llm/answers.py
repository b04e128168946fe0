"""From a reply to candidates: the ladder strict → repaired → id pattern → title → unusable.

A rung that recognises an answer decides; what it cannot use is dropped, never guessed. Nothing but a candidate of the
question can come out, each at most once. Free text is accepted only where it cannot mean the opposite: "anything but
c03" names c03 too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import json_repair
import orjson
from rapidfuzz.fuzz import ratio
from rapidfuzz.utils import default_process

from llmser_tasks.llm.harmless import PLAIN, REVERSES, harmless
from llmser_tasks.llm.question import Answer
from llmser_tasks.llm.server_cases.finishes import is_cut_off
from llmser_tasks.llm.thinking import aloud

if TYPE_CHECKING:
    from llmser_tasks.llm.prompts import PickQuestion

Source = Literal["strict", "repaired", "id-pattern", "fuzzy"]

LONGEST = 20_000  # characters read of a reply, after its thinking; honest ones have a few hundred
LONGEST_BROKEN = 2_000  # of an answer that needs repair, which takes quadratic time
MOST_ELEMENTS = 200  # looked at in a list
SIMILAR = 90.0  # rapidfuzz ratio; looser scorers accepted almost every title that was not in the list

_ID = re.compile(r"c([0-9]{2})")
_IN_TEXT = re.compile(r"(?<!\w)c([0-9]{2})(?!\w)")
_ONLY_IDS = re.compile(rf"(?:[{PLAIN}]*+c[0-9]{{2}}(?!\w))++[{PLAIN}]*+")
_LABELLED = re.compile(r"c([0-9]{2})\s*[:.)(|,–—-]\s*(.*)", re.S)
_LINE = re.compile(r"[\s>*#•·|–-]*+(?:[0-9]{1,2}\s*[.):]\s*)?[\s\"'`*_\[(-]*c([0-9]{2})(?!\w)(.*)")
_RANGE = re.compile(r"c[0-9]{2}[^\S\n]*(?:-|–|—|to|through|…|\.\.+)[^\S\n]*c[0-9]{2}")
_BULLET = re.compile(r"^[\s>*#•·–-]*+(?:[0-9]{1,2}\s*[.):]\s+)?")
_QUOTED = re.compile(r"\"([^\"\n]{3,})\"|“([^”\n]{3,})”|\*\*([^*\n]{3,})\*\*|«([^»\n]{3,})»")
_KEY = re.compile(r"[\"']?\b(?:picks|item)[\"']?\s*:\s*(?=[\[\"'{])")
_NUMBERS = re.compile(r"[0-9]+|\b[ivx]+\b")
_REMARK = re.compile(r"\s[–—-]+\s|\s?[(:;,|]")  # between a title and what is said about it


@dataclass(frozen=True)
class Chosen:
    """A candidate that an answer names: its 0-based place in the order shown, and the rung that found it."""

    index: int
    source: Source


@dataclass(frozen=True)
class PickAnswer(Answer):
    """What a reply says to a question for picks.

    Attributes:
        chosen: usable candidates, likeliest first, at most `question.picks`.
        invented: how many things it names that are no candidates.
    """

    chosen: tuple[Chosen, ...] = ()
    invented: int = 0

    @property
    def usable(self) -> bool:
        return bool(self.chosen)


def parse(content: str, question: PickQuestion, finish_reason: str | None = "stop") -> PickAnswer:
    """Which candidates a reply names.

    Args:
        finish_reason: one that says that the reply was cut off (`finishes.is_cut_off`): its last piece then counts
            only if it is a whole id, and an answer amid other words may be a draft, so it counts for nothing.
    """
    text = aloud(content)
    if not text:
        return PickAnswer(content, finish_reason)
    cut_off = is_cut_off(finish_reason) or len(text) > LONGEST
    text = text[:LONGEST]
    choices = _Choices(question)
    found = _from_json(text, choices, strict=text == content.strip())
    if found is None:
        found = _from_broken_json(text, choices, cut_off)
    if found is None:
        found = _from_ids(text, choices, cut_off)
    if found is None:
        found = _from_titles(text, choices, cut_off)
    first: dict[int, Chosen] = {}
    for one in found or ():
        first.setdefault(one.index, one)
    return PickAnswer(content, finish_reason, tuple(first.values())[: question.picks], choices.invented)


class _Choices:
    """The question's candidates, as the rungs look them up."""

    def __init__(self, question: PickQuestion) -> None:
        self.question = question
        self.picks = question.picks
        self.count = len(question.choices)
        self.invented = 0  # things named that are none of them

    def by_number(self, digits: str) -> int | None:
        return int(digits) - 1 if 1 <= int(digits) <= self.count else None

    def by_title(self, text: str) -> int | None:
        """The one candidate whose title this is, or its title and more of what was shown, but for small slips; numbers
        must agree.
        """
        wanted = default_process(text)
        if len(wanted) < 2:
            return None
        exact = [i for i, title in enumerate(self._titles) if title == wanted]
        if not exact and self._shown:
            exact = [i for i, shown in enumerate(self._shown) if self._begins(i, wanted) and shown.startswith(wanted)]
        if exact:
            return exact[0] if len(exact) == 1 else None
        numbers = _NUMBERS.findall(wanted)
        close = [
            i
            for i, names in enumerate(zip(self._titles, self._shown or self._titles, strict=True))
            if any(name and ratio(wanted, name) >= SIMILAR and _NUMBERS.findall(name) == numbers for name in names)
        ]
        return close[0] if len(close) == 1 else None

    @cached_property
    def _titles(self) -> list[str]:
        return [default_process(title) for title in self.question.choices]

    @cached_property
    def _shown(self) -> list[str]:
        return [default_process(text) for text in self.question.shown]

    def _begins(self, index: int, wanted: str) -> bool:
        """Whether a candidate's title, whole, is how this begins."""
        title = self._titles[index]
        return bool(title) and f"{wanted} ".startswith(f"{title} ")

    def id_like_titles(self) -> set[str]:
        """Numbers that stand in some title as an id would: such a mention in free text may mean the title."""
        shown = " ".join(str(message["content"]) for message in self.question.messages if message["role"] == "user")
        shown = re.sub(r'"id":"c[0-9]{2}"', "", shown) + " ".join(self.question.choices)
        return set(_IN_TEXT.findall(shown))


def _from_json(text: str, choices: _Choices, strict: bool) -> list[Chosen] | None:
    """A reply that is one whole JSON value."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    asked, shape = ("item", str) if choices.picks == 1 else ("picks", list)
    if strict and isinstance(value, dict) and list(value) == [asked] and isinstance(value[asked], shape):
        return _elements(value[asked], choices, "strict")
    if isinstance(value, dict):
        answers = list(_answers_in(value))
        if not answers and len(value) == 1:
            name, only = next(iter(value.items()))
            if name not in {"candidates", "candidate", "first", "in", "order"} and harmless(name.replace("_", " ")):
                answers = [only]
        return _elements(answers[-1], choices, "repaired") if answers else []
    if isinstance(value, list | str):
        return _elements(value, choices, "repaired")
    return []


def _answers_in(value: Any, depth: int = 0) -> Iterator[Any]:
    """Values under the answer's keys at any depth, in order."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in {"picks", "item"}:
                yield inner
            elif depth < 5:
                yield from _answers_in(inner, depth + 1)


def _from_broken_json(text: str, choices: _Choices, cut_off: bool) -> list[Chosen] | None:
    """JSON inside prose, cut off, or slightly wrong. Of several answers the last counts: models correct themselves."""
    starts = list(_KEY.finditer(text))
    if starts:
        if cut_off and not _is_last_word(text, starts[-1]):
            return []
        tail = text[starts[-1].end() :]
    elif text.startswith("[") and not text.partition("]")[2].strip():
        tail = text
    else:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(tail)
        return _elements(value, choices, "repaired")
    except (ValueError, RecursionError):
        pass
    inner, closed, _ = tail.partition("]") if tail.startswith("[") else ("[" + tail.partition("\n")[0], "", "")
    if len(inner) > LONGEST_BROKEN:
        inner, closed = inner[:LONGEST_BROKEN], ""
    try:
        value = json_repair.loads(inner + closed)
    except (ValueError, RecursionError):
        return []
    return _elements(value, choices, "repaired", whole=bool(closed))


def _is_last_word(text: str, key: re.Match[str]) -> bool:
    """Whether a reply that was cut off had come to its answer: amid other words it may be a draft."""
    before = text[: key.start()].rstrip("{ \n").removesuffix("```json").removesuffix("```")
    try:
        _, end = json.JSONDecoder().raw_decode(text[key.end() :])
    except (ValueError, RecursionError):
        end = len(text)  # the cut is in the answer itself
    after = text[key.end() + end :].strip("}` \n")
    return harmless(before) and not after


def _elements(value: Any, choices: _Choices, source: Source, whole: bool = True) -> list[Chosen]:
    """What an answer's value names: an id, a title, an object with an id, or a list of them."""
    elements = value[:MOST_ELEMENTS] if isinstance(value, list) else [value]
    chosen: list[Chosen] = []
    for place, element in enumerate(elements):
        may_be_title = whole or place < len(elements) - 1
        if isinstance(element, dict):
            named, title = element.get("id"), element.get("title")
            if source == "strict":
                source = "repaired"
            if isinstance(named, str) and isinstance(title, str):
                element = f"{named}: {title}"
            else:
                element = named if isinstance(named, str) else title
        found = _element(element.strip(), choices, source, may_be_title) if isinstance(element, str) else []
        choices.invented += not found and may_be_title
        chosen += found
    return chosen


def _element(text: str, choices: _Choices, source: Source, may_be_title: bool) -> list[Chosen]:
    if match := _ID.fullmatch(text):
        index = choices.by_number(match[1])
        return [Chosen(index, source)] if index is not None else []
    if _ONLY_IDS.fullmatch(text):
        indexes = [choices.by_number(digits) for digits in _IN_TEXT.findall(text)]
        return [] if _RANGE.search(text) else [Chosen(i, "id-pattern") for i in indexes if i is not None]
    if match := _LABELLED.fullmatch(text):
        index = choices.by_number(match[1])
        return [Chosen(index, "id-pattern")] if index is not None and _agrees(index, match[2], choices) else []
    index = choices.by_title(text) if may_be_title else None
    return [Chosen(index, "fuzzy")] if index is not None else []


def _agrees(index: int, label: str, choices: _Choices) -> bool:
    """Whether what stands beside an id is the same candidate's title, with no more than a remark behind it."""
    label = label.strip(" \"'*_()[]")
    if not label or choices.by_title(label) is not None:
        return not label or choices.by_title(label) == index
    title, *remarks = _REMARK.split(label, maxsplit=1)
    remark = "".join(remarks)
    if REVERSES.search(remark) or _IN_TEXT.search(remark) or not remark.isascii():
        return False
    return choices.by_title(title.strip(" \"'*_()[]")) == index


def _from_ids(text: str, choices: _Choices, cut_off: bool) -> list[Chosen] | None:
    """Ids in free text: a list of them, one a line with its title, or a sentence naming no more than wanted."""
    if not _IN_TEXT.search(text):
        return None
    if _RANGE.search(text):
        return []
    ambiguous = choices.id_like_titles()

    def named(numbers: list[str]) -> list[Chosen]:
        indexes = [choices.by_number(number) for number in numbers if number not in ambiguous]
        choices.invented += indexes.count(None)
        return [Chosen(i, "id-pattern") for i in indexes if i is not None]

    if _ONLY_IDS.fullmatch(text):
        return named(_IN_TEXT.findall(text))
    lines = [line for line in text.splitlines() if line.strip()]
    matches = [_LINE.match(line) for line in lines]
    rest = [line for line, match in zip(lines, matches, strict=True) if match is None]
    if all(harmless(line) for line in rest) and len(matches) - len(rest) > 1:
        agreeing = []
        for match in matches:
            index = choices.by_number(match[1]) if match else None
            if match and index is not None and _agrees(index, match[2].strip(" \t:.)|,–—-\"'`*_]"), choices):
                agreeing.append(match[1])
        return named(agreeing)
    numbers = _IN_TEXT.findall(text)
    if cut_off or len(set(numbers)) > choices.picks or not harmless(_IN_TEXT.sub(" ", text)):
        return []
    return named(numbers)


def _from_titles(text: str, choices: _Choices, cut_off: bool) -> list[Chosen] | None:
    """Titles in free text, one a line or in quotation marks."""
    lines = [line for line in text.splitlines() if line.strip()]
    if cut_off:
        lines = lines[:-1]
    found: list[int] = []
    rest: list[str] = []
    for line in lines:
        index = choices.by_title(_BULLET.sub("", line).strip(" \t.,;\"'`*_[]"))
        if index is not None:
            found.append(index)
            continue
        for match in _QUOTED.finditer(line):
            index = choices.by_title(next(group for group in match.groups() if group))
            if index is not None:
                found.append(index)
        rest.append(_QUOTED.sub("", line))
    if not all(harmless(line) for line in rest) or (rest and len(set(found)) > choices.picks):
        return []
    return [Chosen(index, "fuzzy") for index in found]
