"""One question over the wire: the request, the response, and the retries between them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from llmser_tasks import __version__
from llmser_tasks.llm.breaker import Breaker, Stopped
from llmser_tasks.llm.concurrency import Gate
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import (
    FormatRefused,
    RateLimited,
    Refused,
    Retriable,
    classify,
)
from llmser_tasks.llm.exchange import exchange
from llmser_tasks.llm.prompts import Question, answer_schema
from llmser_tasks.llm.purse import Purse
from llmser_tasks.llm.ratelimit import PATIENCE_S, Limiter
from llmser_tasks.llm.replies import Reply, read_reply
from llmser_tasks.llm.transport import transport

ATTEMPTS = 5  # per question; with the waits below a blip of 10 s is ridden out, and a rerun mends the rest
BACKOFF_S = 0.5  # before the first retry, doubled before each further one
RATE_BACKOFF_S = 2.0  # the same after a 429 that names no time: slower, because haste is what it complains of
LONGEST_BACKOFF_S = 20.0
CONNECT_S = 10.0
# OpenAI's; llama.cpp's older one; GLM's, which names no ids; none.
FORMATS = ("json_schema", "json_object with schema", "json_object", "plain")

_random = random.SystemRandom()


@dataclass(frozen=True)
class Dialect:
    """How an endpoint wants to be asked. None of this changes the question, so it is no part of its key."""

    response_format: str = "json_schema"
    length: str = "max_tokens"
    temperature: bool = True

    def simpler(self, refusal: Refused) -> Dialect | None:
        """What to try after a refusal; None where nothing is left."""
        said = str(refusal)
        if "max_completion_tokens" in said and self.length == "max_tokens":
            return replace(self, length="max_completion_tokens")
        if "temperature" in said and self.temperature:
            return replace(self, temperature=False)
        level = FORMATS.index(self.response_format)
        return replace(self, response_format=FORMATS[level + 1]) if level + 1 < len(FORMATS) else None


def dialect_of(endpoint: Endpoint) -> Dialect | None:
    """How the endpoint wants to be asked, where it has been asked before."""
    return _spoken.get((endpoint.url, endpoint.model))


_spoken: dict[tuple[str, str], Dialect] = {}  # what worked, per URL and model, for the life of this process


class Client:
    """Asks one endpoint; to be used inside one event loop."""

    def __init__(self, endpoint: Endpoint, gate: Gate, limiter: Limiter, purse: Purse, breaker: Breaker) -> None:
        self._endpoint = endpoint
        self._gate = gate
        self._limiter = limiter
        self._purse = purse
        self._breaker = breaker
        self.calls = 0  # requests sent
        self._url = httpx.URL(endpoint.chat_url)  # parsed once
        headers = {
            "host": self._url.netloc.decode(),
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"llmser/{__version__}",
        }
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        self._headers = httpx.Headers(headers, encoding="ascii")  # or httpx finds that out for every request
        connect = min(CONNECT_S, endpoint.timeout_s)
        self._extensions = {"timeout": httpx.Timeout(endpoint.timeout_s, connect=connect).as_dict()}
        self._transport = transport(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def ask(self, question: Question) -> Reply:
        """Ask until there is a reply, or no sense in asking on.

        Raises:
            Retriable: a later run may get an answer.
            QuestionFatal: nobody ever will.
            EndpointFatal: nobody will get any answer here until a person does something.
            Refused: the endpoint refuses the request and does not say why.
            StorageError: the shared rate limit cannot be kept.
        """
        place = (self._endpoint.url, self._endpoint.model)
        dialect = _spoken.get(place, Dialect())
        tried = {dialect}
        attempt = 1
        while True:
            try:
                reply = await self._once(question, dialect, attempt)
            except Refused as refusal:
                proven = _spoken.get(place)
                if proven is not None and proven not in tried:  # found by another question in the meantime
                    simpler: Dialect | None = proven
                elif proven is None or isinstance(refusal, FormatRefused):
                    simpler = dialect.simpler(refusal)
                else:
                    simpler = None
                if simpler is None:
                    self._breaker.failed(refusal, final=True)
                    raise
                dialect = simpler
                tried.add(dialect)
            except Stopped:
                raise
            except Retriable as error:
                self._breaker.failed(error, final=attempt == ATTEMPTS)
                if attempt == ATTEMPTS:
                    raise
                await self._wait_after(error, attempt)
                attempt += 1
            else:
                self._breaker.succeeded()
                _spoken[place] = dialect
                return reply

    async def _wait_after(self, error: Retriable, attempt: int) -> None:
        """Wait as long as the endpoint asks, and let everyone else wait too; else exponentially, with jitter."""
        if error.retry_after is not None and error.retry_after > PATIENCE_S:
            await self._limiter.block(error.retry_after)
            self._breaker.trip(
                Stopped(
                    f"{error} It asks for a pause of {error.retry_after:.0f} s, so the batch stopped; rerun it then."
                )
            )
            raise error
        if error.retry_after:
            await self._limiter.block(error.retry_after)
            return
        first = RATE_BACKOFF_S if isinstance(error, RateLimited) else BACKOFF_S
        longest = min(first * 2.0 ** (attempt - 1), LONGEST_BACKOFF_S)
        await self._breaker.pause(_random.uniform(longest / 2, longest))

    async def _once(self, question: Question, dialect: Dialect, attempt: int) -> Reply:
        """One request.

        Raises:
            LlmError: it brought no reply.
        """
        body = request_body(self._endpoint.model, question, dialect)

        def most() -> float:
            return self._endpoint.cost(self._limiter.tokens(len(body)), question.max_tokens) or 0.0

        async with self._gate.passed(), self._purse.pay(most) as payment:
            prompt_tokens = self._limiter.tokens(len(body))
            await self._limiter.wait(prompt_tokens + question.max_tokens)
            self._breaker.check()
            self.calls += 1
            payment.send()
            started = time.monotonic()
            status, headers, raw = await self._post(body)
            if status != 200:
                payment.settle(0.0)
                error = classify(self._endpoint, status, headers, raw)
                if isinstance(error, RateLimited):
                    self._gate.complained(started)
                raise error
            latency_ms = int((time.monotonic() - started) * 1000)
            reply = read_reply(self._endpoint, headers, raw, len(body), attempt, latency_ms)
            payment.settle(self._endpoint.cost(reply.prompt_tokens, reply.completion_tokens))
        self._gate.answered()
        if reply.prompt_tokens is not None:
            used = reply.prompt_tokens + (reply.completion_tokens or 0)
            self._limiter.settle(prompt_tokens + question.max_tokens, used, len(body), reply.prompt_tokens)
        return reply

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of the response, or the error class of what kept it away."""
        request = httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=self._extensions)
        return await exchange(self._transport, self._endpoint, request, self._endpoint.timeout_s)


def request_body(model: str, question: Question, dialect: Dialect = Dialect()) -> bytes:
    """The request that asks a question."""
    body: dict[str, Any] = {
        "model": model,
        "messages": question.messages,
        dialect.length: question.max_tokens,
    }
    if dialect.temperature:
        body["temperature"] = question.temperature
    if dialect.response_format != "plain":
        made = _response_format(dialect.response_format, len(question.choices), question.picks)
        body["response_format"] = orjson.Fragment(made)
    return orjson.dumps(body)


@cache
def _response_format(name: str, choices: int, picks: int) -> bytes:
    """At most 99 × 99 of each; a run has two."""
    schema = answer_schema(choices, picks)
    if name == "json_schema":
        return orjson.dumps({"type": name, "json_schema": {"name": "answer", "strict": True, "schema": schema}})
    return orjson.dumps({"type": "json_object"} | ({"schema": schema} if name.endswith("with schema") else {}))
