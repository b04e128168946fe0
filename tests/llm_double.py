"""A chat-completions server over real HTTP that does what a test scripts, for single questions and for batches."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from patience import PATIENCE_S
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "sk-planted-0123456789abcdef"
FOR_EVER = 86_400.0  # as a delay: no answer while the test lasts


@dataclass
class Act:
    """One response. `delay` comes before its head, `drip` between its parts; `cut` ends it before it is whole.

    Neither outlasts the test: the next one's `reset` ends them.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: bool = False


def says(content: Any, finish: str = "stop", usage: Any = None, model: str = "double-1", **extra: Any) -> Act:
    """A chat completion; `extra` goes into its message."""
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content} | extra, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110} if usage is None else usage,
    }
    return Act(body=body)


def fails(
    status: int, code: Any = None, message: str = "no", headers: dict[str, str] | None = None, **more: Any
) -> Act:
    return Act(status=status, body={"error": {"code": code, "message": message, **more}}, headers=headers or {})


def first_choices(body: dict[str, Any]) -> Act:
    """A well-behaved model that likes the first candidates."""
    block = json.loads(body["messages"][-1]["content"])
    return says(json.dumps({"picks": [c["id"] for c in block["candidates"]][:2]}))


class Double:
    """`script(number, body)` makes the response to the request of that number, counted from 0; of a batch, each line's.
    A batch is over as soon as it is made."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self.reset()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/files", self._upload, methods=["POST"]),
            Route("/v1/files/{file}/content", self._download),
            Route("/v1/batches", self._batches, methods=["GET", "POST"]),
            Route("/v1/batches/{batch}", self._batch),
            Route("/settled", _settled),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def reset(self) -> None:
        self._over.set()  # what an earlier test left waiting ends, and counts no longer
        self._over = threading.Event()
        self.script: Callable[[int, dict[str, Any]], Act] = lambda _, body: first_choices(body)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[str] = []
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def plays(self, *acts: Act) -> None:
        """These in order, the last one for ever."""
        self.script = lambda number, _: acts[min(number, len(acts) - 1)]

    def settle(self) -> None:
        """Return when requests that are on their way, of a process that was killed, say, have been counted."""
        for _ in range(2):  # what had come before the first is being read when the second comes
            httpx.get(self.url.removesuffix("/v1") + "/settled", timeout=PATIENCE_S, trust_env=False)

    def stop(self) -> None:
        self._over.set()
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    async def _chat(self, request: Request) -> Response:
        over = self._over
        number = len(self.times)
        self.times.append(time.time())
        body = json.loads(await request.body())
        self.bodies.append(body)
        self._note(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            act = self.script(number, body)
            await _pause(act.delay, over)
        finally:
            if not over.is_set():
                self.in_flight -= 1
        raw = act.body if isinstance(act.body, bytes) else json.dumps(act.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(raw))} | act.headers
        if act.drip or act.cut:
            return StreamingResponse(_parts(raw, act, over), act.status, headers)
        return Response(raw, act.status, headers)

    async def _upload(self, request: Request) -> Response:
        self._note(request)
        lines = [line for line in (await request.body()).splitlines() if line.startswith(b'{"custom_id"')]
        return JSONResponse({"id": self._keep(lines)})

    async def _download(self, request: Request) -> Response:
        self._note(request)
        return Response(self.files[request.path_params["file"]])

    async def _batches(self, request: Request) -> Response:
        self._note(request)
        if request.method == "GET":
            return JSONResponse({"data": list(self.batches.values()), "has_more": False})
        asked = await request.json()
        good: list[bytes] = []
        bad: list[bytes] = []
        for line in map(json.loads, self.files[asked["input_file_id"]].splitlines()):
            self.bodies.append(line["body"])
            act = self.script(len(self.bodies) - 1, line["body"])
            response = {"status_code": act.status, "request_id": "r", "body": act.body}
            answered = {"id": "l", "custom_id": line["custom_id"], "response": response, "error": None}
            (good if act.status == 200 else bad).append(json.dumps(answered).encode())
        batch = {
            "id": f"batch_{len(self.batches)}",
            "status": "completed",
            "input_file_id": asked["input_file_id"],
            "metadata": asked["metadata"],
            "output_file_id": self._keep(good),
            "error_file_id": self._keep(bad) if bad else None,
        }
        self.batches[batch["id"]] = batch
        return JSONResponse(batch)

    async def _batch(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(self.batches[request.path_params["batch"]])

    def _note(self, request: Request) -> None:
        self.headers.append(dict(request.headers))
        self.queries.append(request.url.query)

    def _keep(self, lines: list[bytes]) -> str:
        name = f"file_{len(self.files)}"
        self.files[name] = b"\n".join(lines)
        return name


async def _parts(raw: bytes, act: Act, over: threading.Event) -> Any:
    for place in range(0, len(raw) // 2 if act.cut else len(raw), 8):
        yield raw[place : place + 8]
        await _pause(act.drip, over)


async def _pause(seconds: float, over: threading.Event) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not over.is_set():
        await asyncio.sleep(min(left, 0.1))


async def _settled(_: Request) -> Response:
    return Response("settled")
