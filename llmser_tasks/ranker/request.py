"""What a chat completion request asks the embedding ranker: which candidates to order, how many to name."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST_BODY = 4 * 2**20  # bytes of a request
MOST_CANDIDATES = 1000
MOST_HISTORY = 1000
LONGEST_TITLE = 4096  # characters read of one
MOST_BRACES = 100  # places tried as the start of the data
DEFAULT_PICKS = 10  # if nothing says how many

_ID = re.compile(r"[!-~]{1,64}")
_WANTED = re.compile(r"\b(?:at most|up to|exactly|best|top|pick|choose|select)\s+(\d{1,3})\b", re.I)


class Malformed(Exception):
    """A request that cannot be answered; the client gets the message."""


@dataclass(frozen=True)
class ChatRequest:
    """What a request asks: order these candidates, name the best `most`."""

    hash: str
    name: str  # of the answer's key: picks or item
    most: int
    history: list[str]
    ids: list[str]
    candidates: list[str]
    text: str  # of the user message
    prompt_bytes: int


async def read_body(request: Request) -> bytes:
    """The request's body.

    Raises:
        HTTPException: it is too large.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > LARGEST_BODY:
            raise HTTPException(413, f"A request may hold {LARGEST_BODY} bytes.")
    return b"".join(parts)


def read_question(body: bytes) -> ChatRequest:
    """Read a chat completion request.

    Raises:
        Malformed: it is not such a request, or holds no candidates.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("The request is not JSON.") from None
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise Malformed("'messages' must be a list of messages.")
    if request.get("stream"):
        raise Malformed("'stream' is not supported by the embedding ranker.")
    texts = [_text(message.get("content")) for message in messages]
    text = next((t for t, m in zip(reversed(texts), reversed(messages), strict=True) if m.get("role") == "user"), "")
    history, ids, candidates = _block(text)
    try:
        content = orjson.dumps(messages)
    except orjson.JSONEncodeError:  # orjson cannot write as deep as it reads
        raise Malformed("'messages' nest too deeply.") from None
    name, most = _wanted(request.get("response_format"), texts, len(ids))
    return ChatRequest(
        hash=sha256(content).hexdigest(),
        name=name,
        most=most,
        history=history,
        ids=ids,
        candidates=candidates,
        text=text,
        prompt_bytes=sum(len(one.encode()) for one in texts),
    )


def _text(content: Any) -> str:
    """A message's text: a string, or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return content if isinstance(content, str) else ""


def _block(text: str) -> tuple[list[str], list[str], list[str]]:
    """What is shown of the history, candidate ids, and what is shown of these, of the JSON object in a message."""
    block = _json_object(text)
    history, candidates = block.get("history") or [], block.get("candidates")
    if not isinstance(history, list) or len(history) > MOST_HISTORY:
        raise Malformed(f"'history' must be a list of at most {MOST_HISTORY} titles.")
    if not isinstance(candidates, list) or not 1 <= len(candidates) <= MOST_CANDIDATES:
        raise Malformed(
            f"'candidates' must be a list of 1 to {MOST_CANDIDATES} objects with id and title: this server "
            "ranks them, and writes no text."
        )
    given = [candidate.get("id") if isinstance(candidate, dict) else None for candidate in candidates]
    ids = [one for one in given if isinstance(one, str) and _ID.fullmatch(one)]
    if len(set(ids)) < len(candidates):
        raise Malformed("Every candidate needs an id of its own: up to 64 visible ASCII characters.")
    return [_title(entry) for entry in history], ids, [_title(candidate) for candidate in candidates]


def _json_object(text: str) -> dict[str, Any]:
    """The first JSON object in a text that holds candidates; instructions and examples may stand around it."""
    with contextlib.suppress(orjson.JSONDecodeError):
        whole = orjson.loads(text)
        if isinstance(whole, dict):
            return whole
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(MOST_BRACES):
        if start < 0:
            break
        end = start + 1
        with contextlib.suppress(ValueError, RecursionError):  # what orjson refuses is a ValueError, too
            found, end = decoder.raw_decode(text, start)
            if "candidates" in found:
                return dict(orjson.loads(text[start:end]))
        start = text.find("{", end)
    raise Malformed('The last user message must hold a JSON object {"history": [...], "candidates": [...]}.')


def _title(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = entry.get("title")
    return entry[:LONGEST_TITLE] if isinstance(entry, str) else ""


def _wanted(response_format: Any, texts: list[str], candidates: int) -> tuple[str, int]:
    """The answer's key and how many ids it may hold: from the schema, else from the words of the instructions."""
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = response_format.get("json_schema")
        schema = schema.get("schema") if isinstance(schema, dict) else None
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if isinstance(properties, dict) and "item" in properties:
            return "item", 1
        picks = properties.get("picks") if isinstance(properties, dict) else None
        if not isinstance(picks, dict):
            raise Malformed("The schema must ask for 'picks' (an array of ids) or for 'item' (one id).")
        most = picks.get("maxItems", candidates)
        if not isinstance(most, int) or most < 0:
            raise Malformed("'maxItems' must be a number.")
        return "picks", min(most, candidates)
    words = "\n".join(texts)
    if '"item"' in words and '"picks"' not in words:
        return "item", 1
    number = _WANTED.search(words)
    return "picks", min(int(number[1]) if number else DEFAULT_PICKS, candidates)
