"""How an endpoint wants to be asked: found out by asking, once, and remembered for every process and run.

Providers take different response formats, call the limit of an answer's length differently or take none, and some
models think before they answer, which needs room. None of this changes the question, so it is no part of its key.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import orjson

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import FormatRefused, LengthRefused, Refused
from llmser_tasks.llm.question import Question
from llmser_tasks.warehouse.engine import Connection, transaction
from llmser_tasks.warehouse.tables import endpoint_dialects

log = logging.getLogger(__name__)

# OpenAI's; llama.cpp's older one; GLM's, which names no ids; none.
FORMATS = ("json_schema", "json_object with schema", "json_object", "plain")
LIMITS = ("max_tokens", "max_completion_tokens", "")  # what an answer's longest length is called; it cannot be said
FIRST_ROOM, MORE_ROOM = 1024, 4  # tokens for one that thinks first; and so many times as many where these do not do
MOST_ROOM = 16_384  # that are tried; whoever needs more says so (max_tokens in the connection's extra)


@dataclass(frozen=True)
class Dialect:
    """One way of asking.

    Attributes:
        length: which of LIMITS.
        room: tokens that every answer may have at least, thinking included; 0: as many as its question says.
    """

    response_format: str = "json_schema"
    length: str = "max_tokens"
    temperature: bool = True
    room: int = 0

    def simpler(self, refusal: Refused) -> Dialect | None:
        """What to try after a refusal; None where nothing is left.

        What it names is left out. Where it names nothing, all may be meant: a router says that nobody takes these
        parameters, and an unexplained 400 that comes before any answer is mostly the format.
        """
        sent = {self.length} | ({"temperature"} if self.temperature else set())
        sent |= {"response_format"} if self.response_format != "plain" else set()
        named = refusal.named & sent if isinstance(refusal, FormatRefused) else frozenset[str]()
        if isinstance(refusal, LengthRefused):
            named = frozenset({self.length} - {""})
        following = self
        if self.length in named:
            at_once = len(named) > 1
            following = replace(following, length="" if at_once else LIMITS[LIMITS.index(self.length) + 1])
        if "temperature" in named:
            following = replace(following, temperature=False)
        if "response_format" in named:
            following = replace(following, response_format="plain" if len(named) > 1 else self._looser())
        if named:
            return following
        if self.temperature and isinstance(refusal, FormatRefused):
            return replace(self, temperature=False)
        if self.response_format != "plain":
            return replace(self, response_format=self._looser())
        return replace(self, length="") if self.length and isinstance(refusal, FormatRefused) else None

    def _looser(self) -> str:
        return FORMATS[FORMATS.index(self.response_format) + 1]

    def tokens(self, endpoint: Endpoint, question: Question) -> int:
        """The most that the answer is allowed to have."""
        return endpoint.max_tokens or max(question.max_tokens, self.room)

    def most_tokens(self, endpoint: Endpoint, question: Question) -> int:
        """The most that it can have; where no limit can be said, what is tried at most elsewhere."""
        allowed = self.tokens(endpoint, question)
        return allowed if self.length else max(allowed, MOST_ROOM)


known: dict[str, Dialect] = {}  # what worked, for the life of this process


def place_of(endpoint: Endpoint) -> str:
    """What a dialect belongs to: address, model, and what else goes with every request."""
    basis = [endpoint.url, endpoint.model, endpoint.query, endpoint.extra_body]
    return hashlib.sha256(orjson.dumps(basis, option=orjson.OPT_SORT_KEYS)).hexdigest()


def dialect_of(endpoint: Endpoint) -> Dialect | None:
    """How the endpoint wants to be asked, where that is known in this process."""
    return known.get(place_of(endpoint))


def recall(endpoint: Endpoint, warehouse: Warehouse) -> Dialect | None:
    """The same, where any process has found it out in the last days.

    Raises:
        StorageError: Postgres is down.
    """
    place = place_of(endpoint)
    if place not in known:
        with transaction(warehouse) as connection:
            row = endpoint_dialects.load(connection, place)
        if (found := _valid(row)) is not None:
            known[place] = found
    return known.get(place)


def note(endpoint: Endpoint, dialect: Dialect, warehouse: Warehouse) -> None:
    """Tell other processes what worked."""
    try:
        with transaction(warehouse) as connection:
            learn(endpoint, dialect, connection)
    except StorageError as error:
        log.debug("How to ask was not noted, and will be found out again: %s", error)


def learn(endpoint: Endpoint, dialect: Dialect, connection: Connection) -> None:
    """Ask this way from now on, in all processes, within the caller's transaction."""
    place = place_of(endpoint)
    known[place] = dialect
    endpoint_dialects.save(connection, place, endpoint=endpoint.url, model=endpoint.model, dialect=asdict(dialect))


def _valid(row: Any) -> Dialect | None:
    try:
        found = Dialect(**row)
    except TypeError:
        return None
    fits = found.response_format in FORMATS and found.length in LIMITS and isinstance(found.room, int)
    return found if fits and isinstance(found.temperature, bool) and 0 <= found.room <= MOST_ROOM else None


def request_body(endpoint: Endpoint, question: Question, dialect: Dialect = Dialect()) -> bytes:
    """The request that asks a question."""
    body: dict[str, Any] = {"model": endpoint.model, "messages": question.messages}
    if dialect.length:
        body[dialect.length] = dialect.tokens(endpoint, question)
    if dialect.temperature:
        body["temperature"] = question.temperature
    if dialect.response_format != "plain":
        made = _response_format(dialect.response_format, question.schema)
        body["response_format"] = orjson.Fragment(made)
    return orjson.dumps({**body, **endpoint.extra_body} if endpoint.extra_body else body)


@cache
def _response_format(name: str, schema: bytes) -> bytes:
    """A run has one or two of these for each of its question steps."""
    of_answer = orjson.Fragment(schema)
    if name == "json_schema":
        return orjson.dumps({"type": name, "json_schema": {"name": "answer", "strict": True, "schema": of_answer}})
    return orjson.dumps({"type": "json_object"} | ({"schema": of_answer} if name.endswith("with schema") else {}))
