"""The formats there are, one file each in this folder, and which of them a line looks like."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

import orjson

from llmser_tasks.core.kinds import DUMP_FORMATS
from llmser_tasks.ingest.source import LATEST, Source, Unusable, json_only


def named(name: str) -> Source:
    """The format of this name."""
    source: Source = DUMP_FORMATS.load(name).SOURCE
    return source


def advice(first: Any, source: Source, what: str) -> str:
    """One sentence on what to do about a dump whose records do not fit `source`, going by one of them.

    Args:
        first: a line's bytes, or a table's row.
        what: "review" or "item", whichever was expected.
    """
    record, sources = _parsed(first) if isinstance(first, bytes) else (first, _every())
    if not isinstance(record, dict):
        return _no_object(first)
    if what == "item" and source.user in record and source.time in record:
        return "It has the fields of a review: give the item dump (the one with the titles) as items."
    fits = [(s.name, kind) for s in sources for kind, fields in _kinds(s) if all(f in record for f in fields)]
    here = [name for name, kind in fits if kind == what]
    if source.name in here:
        return _values(record, source, what)
    if here:
        return f"It looks like {' or '.join(here)}: set source to that."
    found = ", ".join(str(name)[:40] for name in list(record)[:12]) or "none"
    other = [name for name, kind in fits if kind != what]
    if other:
        return f"It has the fields of the other dump ({' or '.join(other)}): are reviews and items exchanged?"
    return f"Its lines have the fields {found}, which is none of {', '.join(DUMP_FORMATS)}; check source and file."


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


def _values(record: dict[str, Any], source: Source, what: str) -> str:
    """The fields are there and they are the source's. What is wrong with their values?"""
    if what == "review":
        try:
            time = source.milliseconds(record[source.time])
        except Unusable:
            return f"Its {source.time} holds seconds, where {source.name} has milliseconds: multiply it by 1,000."
        except (ValueError, TypeError, OverflowError):
            time = 0
        if LATEST <= time < 1000 * LATEST:
            return f"Its {source.time} holds milliseconds, where {source.name} has seconds: divide it by 1,000."
    return "Its fields are right but their values are not; see the reasons above."


def _kinds(source: Source) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("review", source.review_fields), ("item", source.item_fields)


def _parsed(line: bytes) -> tuple[Any, list[Source]]:
    """What a line holds, and the sources that can read it."""
    line = line.strip().removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(line), _every()
    except orjson.JSONDecodeError:
        pass
    try:
        return json_only(line), _every()
    except Unusable:
        pass
    record, able = None, []
    for source in _every():
        with suppress(Unusable):
            record = source.lenient(line)
            able.append(source)
    return record, able


def _every() -> list[Source]:
    """All formats, for advice only: no result depends on those that are not the source."""
    return [importlib.import_module(DUMP_FORMATS.module_of(name)).SOURCE for name in DUMP_FORMATS]
