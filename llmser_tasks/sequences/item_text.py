"""What describes an item: some of its fields, in an order, as one line of text.

>>> one_text(["The Great Greek", "Diners, Greek", None, "Sun City"])
'The Great Greek. Diners, Greek. Sun City'
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from llmser_tasks.core.text import clean_title

LONGEST = 500  # characters, as of a title
_MARKUP = re.compile("[<>{]")  # without these, clean parts stay clean side by side
ENDS = (".", "!", "?", ":", ";")


def item_texts(items: pa.Table, fields: Sequence[str]) -> pa.Array:
    """(I,) texts made of these columns; an item that has none of them has its title, or null."""
    titles = items["title"].to_pylist()
    columns = [items[field].to_pylist() for field in fields]
    rows = zip(titles, zip(*columns, strict=True), strict=True)
    return pa.array([one_text(row) or title for title, row in rows], pa.string())


def one_text(parts: Sequence[str | None]) -> str | None:
    """The parts that are there, as sentences; cleaned again, as two of them may make a tag that neither has."""
    there = [part for part in parts if part]
    if len(there) < 2:
        return there[0] if there else None
    *before, last = there
    text = "".join(f"{part}{' ' if part.endswith(ENDS) else '. '}" for part in before) + last
    return clean_title(text, LONGEST) if _MARKUP.search(text) else text[:LONGEST].strip()
