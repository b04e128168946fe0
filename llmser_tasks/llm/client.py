"""One question over the wire: the request, the response, and the retries between them."""

from __future__ import annotations

import random
import time
from types import TracebackType
from typing import Any, Self

import httpx

from llmser_tasks import __version__
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.dialects import Dialect, request_body
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import (
    CutOff,
    NeverAnswered,
    NoAnswer,
    PromptTooLong,
    RateLimited,
    Refused,
    Retriable,
)
from llmser_tasks.llm.exchange import exchange
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.llm.fleet.budget import Budget
from llmser_tasks.llm.fleet.concurrency import Gate
from llmser_tasks.llm.fleet.ratelimit import PATIENCE_S, Limiter
from llmser_tasks.llm.question import Question
from llmser_tasks.llm.replies import Reply, cut_off, is_lost, read_reply
from llmser_tasks.llm.search import Search
from llmser_tasks.llm.transport import transport

ATTEMPTS = 5  # per question; with the waits below a blip of 10 s is ridden out, and a rerun asks the rest
BACKOFF_S = 0.5  # before the first retry, doubled before each further one
RATE_BACKOFF_S = 2.0  # the same after a 429 that names no time: slower, because it complains of haste
LONGEST_BACKOFF_S = 20.0
CONNECT_S = 10.0
_random = random.SystemRandom()


class Client:
    """Asks one endpoint; to be used inside one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        gate: Gate,
        limiter: Limiter,
        budget: Budget,
        breaker: Breaker,
        warehouse: Warehouse | None = None,
    ) -> None:
        """
        Args:
            warehouse: where to note for others how the endpoint wants to be asked; None: nowhere.
        """
        self._endpoint = endpoint
        self._gate = gate
        self._limiter = limiter
        self._budget = budget
        self._breaker = breaker
        self._search = Search(endpoint, breaker, warehouse)
        self._answered = 0  # questions
        self.calls = 0  # requests sent
        self._url = httpx.URL(endpoint.chat_url)  # parsed once
        self._headers = headers_of(endpoint, self._url)
        self._extensions = extensions_of(endpoint)
        self._transport = transport(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def ask(self, question: Question) -> Reply:
        """Ask until there is a reply, or no point in asking again.

        Raises:
            Retriable: a later run may get an answer.
            CutOff: with more room, a later run may get one.
            QuestionFatal: nobody ever will.
            EndpointFatal: no question will be answered here until a person does something.
            Refused: the endpoint refuses the request and does not say why.
            StorageError: the shared rate limit cannot be kept.
        """
        others = self._answered
        attempt = 1
        way = await self._search.begin(question)
        try:
            while True:
                try:
                    reply = await self._once(question, way.dialect, attempt)
                except (Refused, CutOff, PromptTooLong) as said:
                    refusal = way.understood(said)
                    if await way.goes_on(refusal):
                        continue
                    if (last := way.last_reply(refusal)) is not None:
                        return last
                    self._breaker.failed(refusal, final=True)
                    raise way.told(refusal) from None
                except Stopped:
                    raise
                except Retriable as error:
                    self._breaker.failed(error, final=attempt == ATTEMPTS)
                    if attempt == ATTEMPTS and isinstance(error, NoAnswer) and self._answered > others:
                        raise NeverAnswered(
                            f"{error} So it did {ATTEMPTS} times, while others were answered."
                        ) from None
                    if attempt == ATTEMPTS:
                        raise
                    await wait_after(error, attempt, self._limiter, self._breaker)
                    attempt += 1
                else:
                    self._breaker.succeeded()
                    self._answered += 1
                    await way.found()
                    return reply
        finally:
            way.leave()

    async def _once(self, question: Question, dialect: Dialect, attempt: int) -> Reply:
        """One request.

        Raises:
            LlmError: it brought no reply.
        """
        body = request_body(self._endpoint, question, dialect)
        allowed = dialect.tokens(self._endpoint, question)
        most_tokens = dialect.most_tokens(self._endpoint, question)

        def most() -> float:
            return self._endpoint.cost(self._limiter.tokens(len(body)), most_tokens) or 0.0

        async with self._gate.passed(), self._budget.pay(most) as payment:
            prompt_tokens = self._limiter.tokens(len(body))
            await self._limiter.wait(prompt_tokens + allowed)
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
            try:
                reply = read_reply(self._endpoint, headers, raw, len(body), attempt, latency_ms)
            except NoAnswer as none:
                payment.waste(self._endpoint.cost(*none.usage))
                raise
            price = self._endpoint.cost(reply.prompt_tokens, reply.completion_tokens)
            if lost := is_lost(reply, question):
                payment.waste(price)
            else:
                payment.settle(price)
        self._gate.answered()
        if reply.prompt_tokens is not None:
            used = reply.prompt_tokens + (reply.completion_tokens or 0)
            self._limiter.settle(prompt_tokens + allowed, used, len(body), reply.prompt_tokens)
        if lost:
            raise cut_off(self._endpoint, reply)
        return reply

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of the response; what kept it away is raised as an `LlmError`."""
        request = httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=self._extensions)
        return await exchange(self._transport, self._endpoint, request, self._endpoint.timeout_s)


async def wait_after(error: Retriable, attempt: int, limiter: Limiter, breaker: Breaker) -> None:
    """Wait as long as the endpoint asks, and let everyone else wait too; else exponentially, with jitter.

    Raises:
        Retriable: it asks for more patience than a batch has, which ends with it.
    """
    if error.retry_after is not None and error.retry_after > PATIENCE_S:
        await limiter.block(error.retry_after)
        breaker.trip(
            Stopped(
                f"{error} It asks for a pause of {error.retry_after:.0f} s, so the batch stopped; rerun it after that."
            )
        )
        raise error
    if error.retry_after:
        await limiter.block(error.retry_after)
        return
    first = RATE_BACKOFF_S if isinstance(error, RateLimited) else BACKOFF_S
    longest = min(first * 2.0 ** (attempt - 1), LONGEST_BACKOFF_S)
    await breaker.pause(_random.uniform(longest / 2, longest))


def headers_of(endpoint: Endpoint, url: httpx.URL) -> httpx.Headers:
    """Those of every request, the key among them."""
    headers = {
        "host": url.netloc.decode(),
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"llmser/{__version__}",
    } | endpoint.credentials
    return httpx.Headers(headers, encoding="ascii")  # or httpx finds that out for every request


def extensions_of(endpoint: Endpoint) -> dict[str, Any]:
    """How long connecting and each part of a response may take."""
    connect = min(CONNECT_S, endpoint.timeout_s)
    return {"timeout": httpx.Timeout(endpoint.timeout_s, connect=connect).as_dict()}
