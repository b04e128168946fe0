"""The lines of a provider's batch that is over: what each says, and what follows for the next batch.

The same bodies as those of single requests, read by the same table (`server_cases`). What a single question finds out
by asking again at once, a batch finds out for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from llmser_tasks.llm.dialects import FIRST_ROOM, MORE_ROOM, MOST_ROOM, Dialect, dialect_of, learn
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import (
    CutOff,
    FormatRefused,
    LengthRefused,
    LlmError,
    NeverAnswered,
    NoAnswer,
    QuestionFatal,
)
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.question import Question
from llmser_tasks.llm.replies import cut_off, is_lost, read_reply
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables import unanswered

ROUNDS = 3  # batches that may bring nothing for a question before it is settled


@dataclass(frozen=True)
class InVain(Failure):
    """A line that brought no answer.

    Attributes:
        error: what it stands for.
        last: what settles the question should it come to that; None: it said nothing.
        price: what it cost all the same.
    """

    error: LlmError | None = None
    last: Entry | None = None
    price: float = 0.0


def read_line(endpoint: Endpoint, entry: Entry, line: Mapping[str, Any], question: Question | None) -> Entry | Failure:
    """What one line of an output or error file makes of a question's empty entry.

    Args:
        question: None where it is not at hand; what was cut off then counts as its answer.
    """
    response = line.get("response")
    if not isinstance(response, dict):
        error = line.get("error")
        said = str(error.get("code")) if isinstance(error, dict) else ""
        return Failure("expired" if "expired" in said else "no answer", True, "The batch ended without it.")
    status, raw = response.get("status_code"), dumped(response.get("body"))
    try:
        if status != 200:
            raise classify(endpoint, status if isinstance(status, int) else 500, {}, raw)
        reply = read_reply(endpoint, {}, raw, None, 1, None)
    except QuestionFatal as fatal:
        return replace(entry, failure=fatal.kind)
    except NoAnswer as none:
        return InVain(none.kind, True, str(none), none, price=_price(endpoint, none.usage) or 0.0)
    except LlmError as passing:
        return InVain(passing.kind, True, str(passing), passing)
    price = _price(endpoint, (reply.prompt_tokens, reply.completion_tokens))
    found = reply.enter(entry, price)
    if question is not None and is_lost(reply, question):
        lost = cut_off(endpoint, reply)
        return InVain(lost.kind, True, str(lost), lost, found, price or 0.0)
    return found


def _price(endpoint: Endpoint, usage: tuple[int | None, int | None]) -> float | None:
    cost = endpoint.cost(*usage)
    return None if cost is None else cost * endpoint.batch_price


def weigh(
    connection: Connection,
    endpoint: Endpoint,
    entries: dict[str, Entry],
    failures: Mapping[str, Failure],
    mark: str,
) -> float:
    """Let the next batch ask as these lines suggest, and settle what gets no answer while others in the batch do: what
    had all the room there is, and what ROUNDS batches asked in vain.

    Returns:
        What lines without an answer cost.
    """
    in_vain = {key: one for key, one in failures.items() if isinstance(one, InVain) and key not in entries}
    others = any(entry.content is not None for entry in entries.values())
    dialect = dialect_of(endpoint) or Dialect()
    following = next(filter(None, (_following(endpoint, dialect, one.error) for one in in_vain.values())), None)
    if following is not None:
        learn(endpoint, following, connection)
    elif others and endpoint.max_tokens is None:
        entries |= {key: one.last for key, one in in_vain.items() if one.last}
    silent = [key for key, one in in_vain.items() if isinstance(one.error, NoAnswer)]
    if others and silent:
        for one in unanswered.count(connection, mark, silent):
            if one.times >= ROUNDS:
                entries[one.key] = Entry(
                    one.key, one.step, one.prompt_version, endpoint.model, one.times, failure=NeverAnswered.kind
                )
    unanswered.settled(connection, entries.keys())
    return sum(one.price for key, one in in_vain.items() if key not in entries)


def _following(endpoint: Endpoint, dialect: Dialect, error: LlmError | None) -> Dialect | None:
    """How to ask after this error; None where another form would not help."""
    if isinstance(error, FormatRefused):
        return dialect.simpler(error)
    if isinstance(error, LengthRefused) and endpoint.max_tokens is None:
        return replace(dialect, room=dialect.room // MORE_ROOM) if dialect.room else dialect.simpler(error)
    if isinstance(error, CutOff) and endpoint.max_tokens is None and dialect.length and dialect.room < MOST_ROOM:
        return replace(dialect, room=min(max(MORE_ROOM * dialect.room, FIRST_ROOM), MOST_ROOM))
    return None


def dumped(value: Any) -> bytes:
    """JSON; empty where it nests deeper than orjson can write, though it could read it."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""
