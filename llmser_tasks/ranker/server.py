"""The embedding ranker: an OpenAI-compatible server that answers by ranking, so that LLMSeR runs without any LLM.

It is no LLM and does not pretend to be one: every response names the model `embedding-ranker`. It reads the JSON block
{"history": [...], "candidates": [{"id": "c07", "title": ...}]} in the last user message and answers in the shape that
the request's JSON schema asks for: {"picks": [...]} is ranked by sentence embedding (SNF), {"item": ...} by TF-IDF
over character n-grams (Reason); see `ranking`. Equal questions are answered equally.

    python -m llmser_tasks.ranker.server --port 8765 --cache FOLDER [--faults SPEC]

It also serves the vectors that it ranks by (`embeddings`): POST /v1/embeddings; and the Batch API (`ranked_batches`):
POST /v1/files, POST /v1/batches and what belongs to them.

Clients must send LLMSER_RANKER_KEY as bearer token. Whoever has it may also, from this machine, read GET /stats, and
change the faults it injects where it was started with `--faults`: POST /faults {"spec": "429=0.1"}.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

import click
import psutil

from llmser_tasks.core.errors import InputError, LlmserError
from llmser_tasks.ranker.app import create_app
from llmser_tasks.ranker.faults import parse_spec
from llmser_tasks.ranker.quiet_server import QuietServer
from llmser_tasks.ranker.responses import MODEL
from llmser_tasks.texts.encoder import MINILM, Embedder, Encoder

SHORTEST_KEY = 16  # characters


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
    """Stop the server when the process that started it is gone, however it ended."""
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
    help='Faults to inject, such as seed=7,429=0.02,truncated=0.01. If given, even as "", whoever has the key may '
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
