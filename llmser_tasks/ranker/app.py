"""The embedding ranker as an ASGI application: its routes, and what each of them answers."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from llmser_tasks.core.errors import InputError
from llmser_tasks.ranker.embeddings import embeddings, read_request
from llmser_tasks.ranker.faults import ODD, SILENCE, SPOILT, answer, error_body, parse_spec, refusal, spoil
from llmser_tasks.ranker.guard import Guard
from llmser_tasks.ranker.ranked_batches import Batches
from llmser_tasks.ranker.ranking import EmbeddingFailed, Titles
from llmser_tasks.ranker.request import ChatRequest, Malformed, read_body, read_question
from llmser_tasks.ranker.responses import MODEL, ChatResponse, as_json, completion, error_response
from llmser_tasks.texts.encoder import Embedder

MOST_QUESTIONS = 2_000_000  # questions remembered, to tell how often each was asked

Reset = Callable[[Any], None]


class Ranker:
    """The server's state: titles it knows, faults it shows, calls it has counted."""

    def __init__(self, encoder: Embedder, cache: Path | None, spec: str | None, reset: Reset) -> None:
        self.titles = Titles(encoder, cache)
        self.encoder = encoder
        self.may_change = spec is not None
        self.spec = spec or ""
        self.faults = parse_spec(self.spec)
        self.reset = reset
        self.outcomes: Counter[str] = Counter()
        self.times_asked: dict[str, int] = {}  # per question

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        said = await self.reply(await read_body(request))
        if said.fault in SILENCE:
            return await self._silence(request, said.fault)
        if said.fault == "drip":
            return StreamingResponse(_drip(said.body, self.faults.drip_seconds), 200, None, "application/json")
        return Response(said.body, said.status, said.headers, "application/json")

    async def reply(self, body: bytes) -> ChatResponse:
        """The answer to a chat completion request, whether it comes alone or in a batch."""
        try:
            question = read_question(body)
        except Malformed as error:
            self.outcomes["malformed"] += 1
            return ChatResponse(400, {}, orjson.dumps(error_body(str(error), "invalid_request_error", None)))
        before = self._count(question)
        fault = self.faults.draw(question.hash, question.text, before)
        self.outcomes[fault or "answered"] += 1
        if fault in SILENCE:
            return ChatResponse(
                504, {}, orjson.dumps(error_body("The gateway timed out.", "server_error", None)), fault
            )
        if fault is not None and fault not in SPOILT and fault not in ODD:
            status, headers, refused = refusal(fault, self.faults, question.hash, before)
            return ChatResponse(status, headers, orjson.dumps(refused), fault)

        await self.titles.know([*question.history, *question.candidates])
        rank = self.titles.by_ngrams if question.name == "item" else self.titles.by_embedding
        best = [question.ids[p] for p in rank(question.history, question.candidates)[: question.most]]
        content, finish = answer(question.name, best), "stop"
        if fault in SPOILT:
            titles = dict(zip(question.ids, question.candidates, strict=True))
            content, finish = spoil(fault, question.name, best, titles, question.most)
        return ChatResponse(200, {}, completion(question, content, finish, usage=fault != "no_usage"), fault)

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings"""
        try:
            asked = read_request(await read_body(request))
        except Malformed as error:
            self.outcomes["malformed"] += 1
            return error_response(400, str(error), "invalid_request_error")
        self.outcomes["embedded"] += 1
        return Response(embeddings(asked, await self.titles.vectors(asked.texts)), media_type="application/json")

    async def models(self, _: Request) -> Response:
        """GET /v1/models"""
        return as_json(
            {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "llmser"}]}
        )

    async def health(self, _: Request) -> Response:
        """GET /health"""
        return as_json({"status": "ok", "model": MODEL, "encoder": self.encoder.hash, "titles": len(self.titles)})

    async def stats(self, request: Request) -> Response:
        """GET /stats: calls received by outcome since the start."""
        _loopback_only(request)
        outcomes = dict(sorted(self.outcomes.items()))
        questions = len(self.times_asked)
        return as_json(
            {"calls": sum(outcomes.values()), "questions": questions, "outcomes": outcomes, "spec": self.spec}
        )

    async def inject(self, request: Request) -> Response:
        """POST /faults {"spec": ...}: from now on, show these faults."""
        _loopback_only(request)
        if not self.may_change:
            raise HTTPException(403, 'Start it with --faults, which may be "", to change faults.')
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "Send application/json.")  # which a web page cannot send without a preflight
        try:
            body = orjson.loads(await read_body(request))
            spec = body["spec"]
            self.faults, self.spec = parse_spec(spec), spec
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            return error_response(400, 'Send {"spec": "NAME=VALUE,..."}.', "invalid_request_error")
        except (InputError, Malformed) as error:
            return error_response(400, str(error), "invalid_request_error")
        return await self.stats(request)

    def _count(self, question: ChatRequest) -> int:
        """How often the question was asked before."""
        if len(self.times_asked) >= MOST_QUESTIONS:
            self.times_asked.clear()
        before = self.times_asked.get(question.hash, 0)
        self.times_asked[question.hash] = before + 1
        return before

    async def _silence(self, request: Request, fault: str) -> Response:
        """Say nothing, for a long time, or drop the connection."""
        if fault == "reset":
            self.reset(request.scope["client"])
            return Response(status_code=500)  # reaches nobody
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.faults.hold):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
        return error_response(504, "The gateway timed out.", "server_error")


def create_app(
    encoder: Embedder,
    cache: Path | None = None,
    spec: str | None = None,
    key: str | None = None,
    reset: Reset = lambda _: None,
    names: Collection[str] = (),
) -> ASGIApp:
    """The ASGI application.

    Args:
        encoder: what SNF questions are ranked with.
        cache: folder of the embedding cache; None: titles are kept in memory only.
        spec: faults to show, see `faults`; None: none, now or later.
        key: where given, the bearer token that every call but /health must bring.
        reset: drops the connection of a client, given as in an ASGI scope.
        names: hosts under which clients may call it, beside this machine's own.
    """
    ranker = Ranker(encoder, cache, spec, reset)
    batches = Batches(ranker.reply, lambda: ranker.faults)

    def refused(status: int, message: str, code: str | None) -> Response:
        ranker.outcomes["unauthorised"] += 1
        return error_response(status, message, "invalid_request_error", code)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        learning = asyncio.create_task(ranker.titles.learn())
        yield
        batches.close()
        learning.cancel()
        ranker.titles.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", ranker.chat, methods=["POST"]),
            Route("/v1/embeddings", ranker.embeddings, methods=["POST"]),
            Route("/v1/models", ranker.models),
            *(Route(path, handler, methods=[method]) for method, path, handler in batches.routes()),
            Route("/health", ranker.health),
            Route("/stats", ranker.stats),
            Route("/faults", ranker.inject, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error, ClientDisconnect: _gone, EmbeddingFailed: _failed},
        lifespan=lifespan,
    )
    return Guard(app, key, names, {"/health"}, refused)


async def _drip(content: bytes, seconds: float) -> AsyncIterator[bytes]:
    for position in range(len(content)):
        await asyncio.sleep(seconds / len(content))
        yield content[position : position + 1]


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(error.status_code, error.detail, "invalid_request_error")
    response.headers.update(error.headers or {})
    return response


async def _gone(*_: object) -> Response:
    return Response(status_code=400)  # reaches nobody


async def _failed(*_: object) -> Response:
    return error_response(500, "The embedding ranker failed; its log says why.", "server_error")


def _loopback_only(request: Request) -> None:
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise HTTPException(403, "Only from the machine itself.")
