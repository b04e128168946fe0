"""The formats there are, and which of them a line looks like."""

from __future__ import annotations

from typing import Any

import orjson

from llmser_tasks.ingest import amazon_2014, amazon_2018, amazon_2023, yelp
from llmser_tasks.ingest.source import Source, Unusable

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE for module in (amazon_2014, amazon_2018, amazon_2023, yelp)
}


def advice(line: bytes, chosen: Source, what: str) -> str:
    """One sentence on what to do about a dump whose lines do not fit `chosen`, going by one of its lines.

    Args:
        what: "review" or "item", whichever was expected.
    """
    record, sources = _parsed(line)
    if not isinstance(record, dict):
        start = "".join(c if c.isprintable() else "\ufffd" for c in line[:40].decode("utf-8", errors="replace"))
        return f"Its lines are no JSON objects (one begins with {start!r}); check that it is the right file."
    fits = [(s.name, kind) for s in sources for kind, fields in _kinds(s) if all(f in record for f in fields)]
    here = [name for name, kind in fits if kind == what]
    if chosen.name in here:
        return "Its fields are right but their values are not; see the reasons above."
    if here:
        return f"It looks like {' or '.join(here)}: set source to that."
    found = ", ".join(str(name)[:40] for name in list(record)[:12]) or "none"
    other = [name for name, kind in fits if kind != what]
    if other:
        return f"It has the fields of the other dump ({' or '.join(other)}): are reviews and items exchanged?"
    return f"Its lines have the fields {found}, which is none of {', '.join(SOURCES)}; check source and file."


def _kinds(source: Source) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("review", source.review_fields), ("item", source.item_fields)


def _parsed(line: bytes) -> tuple[Any, list[Source]]:
    """What a line holds, and the sources that can read it."""
    try:
        return orjson.loads(line), list(SOURCES.values())
    except orjson.JSONDecodeError:
        try:
            return amazon_2014.literal_or_json(line), [amazon_2014.SOURCE]
        except Unusable:
            return None, []
