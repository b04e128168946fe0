"""What an item dump tells of an item beside its title: a brand, categories, a city, a price, the description's first
sentences. Each is cleaned as titles are, and bounded; where nothing readable is left, it is missing.

What sums up interactions (numbers of reviews, mean stars, ranks of sales, items bought or viewed together) is no
description: it would tell a model whom the held-out interactions belong to. Only fields that a format names are read.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmser_tasks.core.text import clean_title

LONGEST_NAME = 100  # characters of a brand or a city
LONGEST_CATEGORY = 60  # of one; anything longer is a sentence that strayed into the list
LONGEST_CATEGORIES = 200  # of all that are kept
LONGEST_SENTENCES = 300
SHORTEST_CUT = 100  # of a description that is cut at the end of a sentence; below it, at a word
LONGEST_RAW = 1000  # of a description or of categories, looked at
LONGEST_CELL = 10_000  # of a list that a table's cell holds
MOST_NAMES = 50  # looked at in a list

MISSING = {"unknown", "none", "null", "nan", "na", "n/a", "-", "--"}  # what exports write where they have nothing
_SENTENCE = re.compile(r"[.!?](?= )")
_PRICE = re.compile(r"[$€£¥]? ?\d[\d,.]*(?: ?- ?[$€£¥]? ?\d[\d,.]*)?")


@dataclass(frozen=True)
class Detail:
    """One thing that a format's item dumps tell.

    Attributes:
        name: as settings and the items' table call it, whatever the format.
        field: as the dump calls it.
        clean: what is kept of the field's value; None: it is missing.
        finish: what is made of that for the items that stay, where cleaning every line's would take too long.
    """

    name: str
    field: str
    clean: Callable[[Any], str | None]
    finish: Callable[[str], str | None] | None = None


def name(raw: Any) -> str | None:
    """A brand or a city. Of a list the first usable one."""
    return _there(clean_title(raw, LONGEST_NAME))


def categories(raw: Any) -> str | None:
    """The distinct names of a list, in its order, as many whole ones as fit: "Hair Care, Shampoo".

    Of several lists (paths in a tree) the longest counts, which says most. A text is a list with commas or bars. A list
    ends where something begins that is no name: Amazon's of 2018 go on with sentences and markup.
    """
    kept: dict[str, str] = {}
    room = LONGEST_CATEGORIES
    for part in _names(raw):
        category = clean_title(part, LONGEST_CATEGORY + 1)
        if category is None or len(category) > LONGEST_CATEGORY or category.endswith("."):
            break
        if category.casefold() in kept or not _there(category):
            continue
        room -= len(category) + 2 * bool(kept)
        if room < 0:
            break
        kept[category.casefold()] = category
    return ", ".join(kept.values()) or None


def _names(raw: Any) -> Iterator[Any]:
    if isinstance(raw, str):
        raw = (
            _listed(raw[:LONGEST_CELL]) if raw.startswith("[") else raw[:LONGEST_RAW].split("," if "," in raw else "|")
        )
    if not isinstance(raw, list | tuple):
        return
    lists = [part for part in raw[:MOST_NAMES] if isinstance(part, list | tuple)]
    for part in (max(lists, key=len) if lists else raw)[:MOST_NAMES]:
        if not (isinstance(part, str) and not part.strip()):  # nothing between two commas ends no list
            yield part


def _listed(text: str) -> list[Any] | None:
    """A list that a table's cell holds as text, as JSON or as Python writes it."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = read(text)
            return value if isinstance(value, list) else None
    return None


def price(raw: Any) -> str | None:
    """A price or a span of prices, as it is written; of a number with two decimals. 0 is none."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float):
        return f"{raw:.2f}" if 0 < raw < 1e9 else None
    text = clean_title(raw, 40)
    if text is None or not _PRICE.fullmatch(text) or not re.search("[1-9]", text):
        return None
    return text


def dollars(raw: Any) -> str | None:
    """A price in dollars, where the dump may have left the sign out."""
    found = price(raw)
    return f"${found}" if found and found[0].isdigit() else found


def beginning(raw: Any) -> str | None:
    """The beginning of a description, not cleaned yet. Of a list, as if its parts were one text."""
    if isinstance(raw, list | tuple):
        raw = " ".join(part[:LONGEST_RAW] for part in raw[:MOST_NAMES] if isinstance(part, str))
    if not isinstance(raw, str):
        return None
    raw = raw[:LONGEST_RAW].strip()
    return (raw if raw.isascii() else raw.encode("utf-8", "ignore").decode()) or None  # without lone surrogates


def sentences(text: str) -> str | None:
    """The first whole sentences of a description, or its first words where the first sentence is too long."""
    text = _there(clean_title(text, LONGEST_SENTENCES + 1)) or ""
    if len(text) <= LONGEST_SENTENCES:
        return text or None
    ends = [found.end() for found in _SENTENCE.finditer(text)]
    if ends and ends[-1] >= SHORTEST_CUT:
        return text[: ends[-1]]
    return text[:LONGEST_SENTENCES].rpartition(" ")[0] or text[:LONGEST_SENTENCES]


def description(field: str) -> Detail:
    """A description under this name in a dump."""
    return Detail("description", field, beginning, sentences)


def _there(text: str | None) -> str | None:
    return None if text is None or text.casefold() in MISSING else text
