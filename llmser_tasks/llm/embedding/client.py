"""A few texts over the wire: the request, the response, and the retries between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import httpx

from llmser_tasks.llm import client
from llmser_tasks.llm.dialects import place_of
from llmser_tasks.llm.embedding.wire import LARGEST_RESPONSE, PATH, Embedded, read_vectors, request_body
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import RateLimited, Refused, Retriable
from llmser_tasks.llm.exchange import exchange
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.llm.fleet.budget import Budget
from llmser_tasks.llm.fleet.concurrency import Gate
from llmser_tasks.llm.fleet.ratelimit import Limiter
from llmser_tasks.llm.transport import transport

BASE64 = "base64"

_plain: set[str] = set()  # endpoints that refuse to be told an encoding, for the life of this process


class Client:
    """Asks one endpoint; to be used inside one event loop."""

    def __init__(self, endpoint: Endpoint, gate: Gate, limiter: Limiter, budget: Budget, breaker: Breaker) -> None:
        self._endpoint = endpoint
        self._gate = gate
        self._limiter = limiter
        self._budget = budget
        self._breaker = breaker
        self.calls = 0  # requests sent
        self._url = httpx.URL(endpoint.address(PATH))
        self._headers = client.headers_of(endpoint, self._url)
        self._extensions = client.extensions_of(endpoint)
        self._transport = transport(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def embed(self, texts: Sequence[str]) -> tuple[Embedded, int]:
        """Ask until there are vectors, or no point in asking again; and which attempt brought them.

        Raises:
            Retriable: a later run may get them.
            QuestionFatal, Refused: not these texts together; perhaps fewer of them, or shorter ones.
            EndpointFatal: nothing will be embedded here until a person does something.
            StorageError: the shared rate limit cannot be kept.
        """
        attempt, place = 1, place_of(self._endpoint)
        while True:
            encoding = None if place in _plain else BASE64
            try:
                made = await self._once(texts, encoding)
            except Refused:
                if encoding is None:
                    raise
                _plain.add(place)  # it may be that; without an encoding every server understands
            except Stopped:
                raise
            except Retriable as error:
                self._breaker.failed(error, final=attempt == client.ATTEMPTS)
                if attempt == client.ATTEMPTS:
                    raise
                await client.wait_after(error, attempt, self._limiter, self._breaker)
                attempt += 1
            else:
                self._breaker.succeeded()
                return made, attempt

    async def _once(self, texts: Sequence[str], encoding: str | None) -> Embedded:
        """One request.

        Raises:
            LlmError: it brought no vectors.
        """
        body = request_body(self._endpoint, texts, encoding)

        def most() -> float:
            return self._endpoint.cost(self._limiter.tokens(len(body)), 0) or 0.0

        async with self._gate.passed(), self._budget.pay(most) as payment:
            expected = self._limiter.tokens(len(body))
            await self._limiter.wait(expected)
            self._breaker.check()
            self.calls += 1
            payment.send()
            started = time.monotonic()
            request = httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=self._extensions)
            status, headers, raw = await exchange(
                self._transport, self._endpoint, request, self._endpoint.timeout_s, PATH, LARGEST_RESPONSE
            )
            if status != 200:
                payment.settle(0.0)
                error = classify(self._endpoint, status, headers, raw)
                if isinstance(error, RateLimited):
                    self._gate.complained(started)
                raise error
            made = read_vectors(self._endpoint, headers, raw, len(texts))
            payment.settle(self._endpoint.cost(made.tokens, 0))
        self._gate.answered()
        if made.tokens is not None:
            self._limiter.settle(expected, made.tokens, len(body), made.tokens)
        return made
