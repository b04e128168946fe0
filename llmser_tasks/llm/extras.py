"""What a connection's extra may add to every request. What is wrong is told without the values: they may be secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

MOST_ENTRIES = 50  # of headers, and of a query
LONGEST_VALUE = 8192  # characters
LARGEST_BODY = 64 << 10  # bytes
OURS = {
    "model": "set it beside extra_body",
    "messages": "they are the question",
    "stream": "answers are read whole",
    "n": "one answer is read, and all are paid",
    "max_tokens": "set it beside extra_body",
    "max_completion_tokens": "set max_tokens beside extra_body",
    "response_format": "it is found out by asking",
}
WIRE = {
    "host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept",
    "accept-encoding", "expect", "te", "trailer", "upgrade",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, token


def check_body(body: Mapping[str, Any]) -> Iterator[str]:
    """Complaints about `extra_body`."""
    for name, instead in OURS.items():
        if name in body:
            yield f"extra_body must not hold {name}: {instead}"
    try:
        size = len(orjson.dumps(body))
    except (orjson.JSONEncodeError, RecursionError):
        yield "extra_body holds something that JSON cannot"
        return
    if size > LARGEST_BODY:
        yield f"extra_body has {size:,} bytes as JSON; {LARGEST_BODY:,} are the most"


def check_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Complaints about `headers`."""
    for name in headers:
        yield from check_header("headers", name)
        if name.lower() == "authorization":
            yield "the header authorization is made of the connection's password; key_header names another for it"
    yield from _check_values("headers", headers)


def check_header(setting: str, name: str) -> Iterator[str]:
    """Complaints about the name of a header."""
    if not _NAME.fullmatch(name):
        yield f"{setting} names a header that cannot be one: letters, digits and dashes"
    elif name.lower() in WIRE:
        yield f"{setting} must not name {name}, which belongs to the wire"


def check_query(query: Mapping[str, str]) -> Iterator[str]:
    """Complaints about `query`."""
    if not all(name and name.isprintable() and len(name) <= 100 for name in query):
        yield "query holds a name that is empty, too long or not printable"
    yield from _check_values("query", query)


def _check_values(setting: str, values: Mapping[str, str]) -> Iterator[str]:
    if len(values) > MOST_ENTRIES:
        yield f"{setting} has {len(values)} entries; {MOST_ENTRIES} are the most"
    for name, value in values.items():
        if not isinstance(value, str):
            yield f"{setting}: the value of {name!r} must be text, in quotes"
        elif not (value.isascii() and value.isprintable()) or len(value) > LONGEST_VALUE:
            yield f"{setting}: the value of {name!r} holds characters that none has, or is too long"
