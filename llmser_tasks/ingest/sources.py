"""The formats there are, and which of them a line looks like."""

from __future__ import annotations

from typing import Any

import orjson

from llmser_tasks.ingest import amazon_2014, amazon_2018, amazon_2023, ratings, yelp
from llmser_tasks.ingest.source import LATEST, Source, Unusable, json_only

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE for module in (amazon_2014, amazon_2018, amazon_2023, yelp, ratings)
}


def advice(first: Any, chosen: Source, what: str) -> str:
    """One sentence on what to do about a dump whose records do not fit `chosen`, going by one of them.

    Args:
        first: a line's bytes, or a table's row.
        what: "review" or "item", whichever was expected.
    """
    record, sources = _parsed(first) if isinstance(first, bytes) else (first, list(SOURCES.values()))
    if not isinstance(record, dict):
        return _no_object(first)
    if what == "item" and chosen.user in record and chosen.time in record:
        return "It has the fields of a review: give the item dump (the one with the titles) as items."
    fits = [(s.name, kind) for s in sources for kind, fields in _kinds(s) if all(f in record for f in fields)]
    here = [name for name, kind in fits if kind == what]
    if chosen.name in here:
        return _values(record, chosen, what)
    if here:
        return f"It looks like {' or '.join(here)}: set source to that."
    found = ", ".join(str(name)[:40] for name in list(record)[:12]) or "none"
    other = [name for name, kind in fits if kind != what]
    if other:
        return f"It has the fields of the other dump ({' or '.join(other)}): are reviews and items exchanged?"
    return f"Its lines have the fields {found}, which is none of {', '.join(SOURCES)}; check source and file."


def _no_object(first: Any) -> str:
    if not isinstance(first, bytes):
        return "Its rows cannot be read; check that it is the right file."
    line = first[:200]
    try:
        first.decode("utf-8")
    except UnicodeDecodeError:
        recoded, _ = _parsed(first.decode("cp1252", errors="replace").encode())
        if isinstance(recoded, dict):
            return "It is in cp1252 or Latin-1; convert it: iconv -f cp1252 -t UTF-8 FILE > CONVERTED."
    start = "".join(c if c.isprintable() else "\ufffd" for c in line[:40].decode("utf-8", errors="replace"))
    return f"Its lines are no JSON objects (one begins with {start!r}); check that it is the right file."


def _values(record: dict[str, Any], chosen: Source, what: str) -> str:
    """The fields are there and the source's. What is wrong with their values?"""
    if what == "review":
        try:
            time = chosen.milliseconds(record[chosen.time])
        except Unusable:
            return f"Its {chosen.time} holds seconds, where {chosen.name} has milliseconds: multiply it by 1,000."
        except (ValueError, TypeError, OverflowError):
            time = 0
        if LATEST <= time < 1000 * LATEST:
            return f"Its {chosen.time} holds milliseconds, where {chosen.name} has seconds: divide it by 1,000."
    return "Its fields are right but their values are not; see the reasons above."


def _kinds(source: Source) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("review", source.review_fields), ("item", source.item_fields)


def _parsed(line: bytes) -> tuple[Any, list[Source]]:
    """What a line holds, and the sources that can read it."""
    line = line.strip().removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(line), list(SOURCES.values())
    except orjson.JSONDecodeError:
        try:
            return json_only(line), list(SOURCES.values())
        except Unusable:
            pass
    try:
        return amazon_2014.literal_or_json(line), [amazon_2014.SOURCE]
    except Unusable:
        return None, []
