"""The embedding ranker: an OpenAI-compatible server that answers by ranking, so that LLMSeR runs without any LLM.

It is no LLM and does not pretend to be one: every response names the model `embedding-ranker`. It reads the JSON block
{"history": [...], "candidates": [{"id": "c07", "title": ...}]} in the last user message and answers in the shape that
the request's JSON schema asks for: {"picks": [...]} is ranked by sentence embedding (SNF), {"item": ...} by TF-IDF
over character n-grams (Reason); see `ranking`. Equal questions are answered equally.

    python -m llmser_tasks.ranker.server --port 8765 --cache FOLDER [--faults SPEC]

It also serves the Batch API (`ranked_batches`): POST /v1/files, POST /v1/batches and what belongs to them.

LLMSER_RANKER_KEY must come as bearer token. Whoever has it may also, from this machine, read GET /stats, and change the
faults it injects where it was started with `--faults`: POST /faults {"spec": "429=0.1"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import orjson
import psutil
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from llmser_tasks.core.errors import InputError, LlmserError
from llmser_tasks.ranker.faults import ODD, SILENCE, SPOILT, answer, error_body, parse_spec, refusal, spoil
from llmser_tasks.ranker.guard import Guard
from llmser_tasks.ranker.quiet_server import QuietServer
from llmser_tasks.ranker.ranked_batches import Batches, as_json, read_body
from llmser_tasks.ranker.ranking import EmbeddingFailed, Titles
from llmser_tasks.ranker.request import Asked, Malformed, read_question
from llmser_tasks.texts.encoder import MINILM, Embedder, Encoder

MODEL = "embedding-ranker"
SHORTEST_KEY = 16  # characters
MOST_QUESTIONS = 2_000_000  # remembered, to tell how often each was asked

Reset = Callable[[Any], None]


@dataclass(frozen=True)
class Reply:
    """Status, headers and body of a response, and the fault that it shows."""

    status: int
    headers: dict[str, str]
    body: bytes
    fault: str | None = None


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
        self.asked: dict[str, int] = {}  # calls of each question

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        said = await self.reply(await read_body(request))
        if said.fault in SILENCE:
            return await self._silence(request, said.fault)
        if said.fault == "drip":
            return StreamingResponse(_drip(said.body, self.faults.drip_seconds), 200, None, "application/json")
        return Response(said.body, said.status, said.headers, "application/json")

    async def reply(self, body: bytes) -> Reply:
        """What a chat completion request is answered, one of a batch like any other."""
        try:
            question = read_question(body)
        except Malformed as error:
            self.outcomes["malformed"] += 1
            return Reply(400, {}, orjson.dumps(error_body(str(error), "invalid_request_error", None)))
        asked = self._count(question)
        fault = self.faults.draw(question.hash, question.text, asked)
        self.outcomes[fault or "answered"] += 1
        if fault in SILENCE:
            return Reply(504, {}, orjson.dumps(error_body("The gateway timed out.", "server_error", None)), fault)
        if fault is not None and fault not in SPOILT and fault not in ODD:
            status, headers, refused = refusal(fault, self.faults, question.hash, asked)
            return Reply(status, headers, orjson.dumps(refused), fault)

        await self.titles.know([*question.history, *question.candidates])
        rank = self.titles.by_ngrams if question.name == "item" else self.titles.by_embedding
        best = [question.ids[p] for p in rank(question.history, question.candidates)[: question.most]]
        content, finish = answer(question.name, best), "stop"
        if fault in SPOILT:
            titles = dict(zip(question.ids, question.candidates, strict=True))
            content, finish = spoil(fault, question.name, best, titles, question.most)
        return Reply(200, {}, _completion(question, content, finish, usage=fault != "no_usage"), fault)

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
        questions = len(self.asked)
        return as_json(
            {"calls": sum(outcomes.values()), "questions": questions, "outcomes": outcomes, "spec": self.spec}
        )

    async def inject(self, request: Request) -> Response:
        """POST /faults {"spec": ...}: from now on, show these faults."""
        _loopback_only(request)
        if not self.may_change:
            raise HTTPException(403, 'Start it with --faults, which may be "", to change faults.')
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "Send application/json.")  # which no web page can without being asked first
        try:
            body = orjson.loads(await read_body(request))
            spec = body["spec"]
            self.faults, self.spec = parse_spec(spec), spec
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            return _error(400, 'Send {"spec": "NAME=VALUE,..."}.', "invalid_request_error")
        except (InputError, Malformed) as error:
            return _error(400, str(error), "invalid_request_error")
        return await self.stats(request)

    def _count(self, question: Asked) -> int:
        """How often the question was asked before."""
        if len(self.asked) >= MOST_QUESTIONS:
            self.asked.clear()
        before = self.asked.get(question.hash, 0)
        self.asked[question.hash] = before + 1
        return before

    async def _silence(self, request: Request, fault: str) -> Response:
        """Say nothing: for a long time, or by dropping the connection."""
        if fault == "reset":
            self.reset(request.scope["client"])
            return Response(status_code=500)  # reaches nobody
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.faults.hold):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
        return _error(504, "The gateway timed out.", "server_error")


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
        return _error(status, message, "invalid_request_error", code)

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


def _completion(question: Asked, content: str, finish: str, *, usage: bool) -> bytes:
    body: dict[str, Any] = {
        "id": f"chatcmpl-{question.hash[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
    }
    if usage:  # tokens as far as bytes tell
        prompt, completion = -(-question.prompt_bytes // 4), -(-len(content.encode()) // 4)
        body["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
    return orjson.dumps(body)


async def _drip(content: bytes, seconds: float) -> AsyncIterator[bytes]:
    for position in range(len(content)):
        await asyncio.sleep(seconds / len(content))
        yield content[position : position + 1]


def _error(status: int, message: str, kind: str, code: str | None = None) -> Response:
    return Response(orjson.dumps(error_body(message, kind, code)), status, media_type="application/json")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, error.detail, "invalid_request_error")
    response.headers.update(error.headers or {})
    return response


async def _gone(*_: object) -> Response:
    return Response(status_code=400)  # reaches nobody


async def _failed(*_: object) -> Response:
    return _error(500, "The embedding ranker failed; its log says why.", "server_error")


def _loopback_only(request: Request) -> None:
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise HTTPException(403, "Only from the machine itself.")


def make_server(
    encoder: Embedder,
    cache: Path | None = None,
    spec: str | None = None,
    key: str | None = None,
    names: Collection[str] = (),
) -> QuietServer:
    """A server of the application, see `create_app`; its `serve(sockets=[listen(...)])` runs it."""
    server = QuietServer(create_app(encoder, cache, spec, key, lambda client: server.reset(client), names))
    return server


def serve(
    port: int = 0,
    host: str = "127.0.0.1",
    *,
    cache: Path | None = None,
    spec: str | None = None,
    key: str,
    names: Collection[str] = (),
    parent: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process `parent` is gone; prints one line when ready.

    Args:
        port: 0 takes a free one, which the line names.

    Raises:
        InputError: the port is taken, the fault spec is wrong, the encoder is missing.
    """
    parse_spec(spec or "")
    listener = listen(host, port)
    server = make_server(Encoder.open(MINILM), cache, spec, key, {host, *names})
    address, bound = listener.getsockname()[:2]
    print(f"{MODEL} ready on http://{f'[{address}]' if ':' in address else address}:{bound}/v1", flush=True)

    async def run() -> None:
        watch = asyncio.create_task(_watch(parent, server)) if parent else None
        await server.serve(sockets=[listener])
        if watch:
            watch.cancel()

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: from now on clients wait instead of being refused."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it; else 40 ms an answer
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        raise InputError(
            f"The embedding ranker cannot listen on {host}:{port} ({error.strerror or error}); choose another --port."
        ) from error
    return listener


async def _watch(parent: int, server: QuietServer) -> None:
    """Stop the server when the process that started it is gone, however it went."""
    try:
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(1)
    except psutil.NoSuchProcess:
        pass
    server.should_exit = True


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


@click.command(help="Serve the embedding ranker, an OpenAI-compatible endpoint that answers by ranking.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free port; the ready line names it.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder that keeps title embeddings.")
@click.option("--name", "names", multiple=True, help="Host name that clients reach it by, beside this machine's own.")
@click.option(
    "--faults",
    "spec",
    help='Faults to inject, such as seed=7,429=0.02,truncated=0.01. Given, and be it as "", whoever has the key may '
    "change them at POST /faults. Default: LLMSER_RANKER_FAULTS.",
)
@click.option("--parent-pid", type=int, help="Stop when this process is gone.")
def main(
    port: int, host: str, cache: Path | None, names: tuple[str, ...], spec: str | None, parent_pid: int | None
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if spec is None:
        spec = os.environ.get("LLMSER_RANKER_FAULTS")
    key = os.environ.get("LLMSER_RANKER_KEY", "")
    try:
        if len(key) < SHORTEST_KEY:
            raise InputError(
                f"The embedding ranker needs a key of {SHORTEST_KEY} characters or more; set LLMSER_RANKER_KEY, or "
                "start it with `llmser serve-ranker`, which makes one and keeps it."
            )
        serve(port, host, cache=cache, spec=spec, key=key, names=names, parent=parent_pid)
    except LlmserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
