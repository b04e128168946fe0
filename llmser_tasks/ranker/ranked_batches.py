"""The embedding ranker's Batch API: a file of requests goes in, a file of responses comes out some time later.

As OpenAI's, and GLM's where it differs (its lines name /v4/chat/completions): files, batches, a list of batches with
the metadata that they were made with, cancelling. Errors go to a file of their own. Everything is kept in
memory, up to a limit; then the oldest files that no batch at work needs are dropped.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from llmser_tasks.ranker.faults import Faults
from llmser_tasks.ranker.request import read_body
from llmser_tasks.ranker.responses import ChatResponse, as_json

LARGEST_FILE = 200 * 2**20  # bytes
LARGEST_FORM = LARGEST_FILE + 2**16  # with the multipart form around the file
MOST_STORED = 600 * 2**20  # of all files
MOST_LINES = 50_000
MOST_BATCHES = 1000  # remembered
MOST_AT_WORK = 64
LARGEST_METADATA = 16  # entries, as OpenAI takes
LONGEST_METADATA = 512  # characters of a name or a value
PAGE = 100
ENDPOINTS = ("/v1/chat/completions", "/v4/chat/completions")
OVER = {"completed", "failed", "expired", "cancelled"}

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Batch:
    """A batch: its JSON object, and the task that works on it."""

    facts: dict[str, Any]
    task: asyncio.Task[None] | None = None


class Batches:
    """Files and batches of one server."""

    def __init__(self, reply: Callable[[bytes], Awaitable[ChatResponse]], faults: Callable[[], Faults]) -> None:
        """
        Args:
            reply: answers the body of one chat completion request.
        """
        self._reply = reply
        self._faults = faults
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._batches: dict[str, Batch] = {}

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        yield "POST", "/v1/files", self.upload
        yield "GET", "/v1/files/{file}", self.file
        yield "DELETE", "/v1/files/{file}", self.delete
        yield "GET", "/v1/files/{file}/content", self.content
        yield "POST", "/v1/batches", self.create
        yield "GET", "/v1/batches", self.list
        yield "GET", "/v1/batches/{batch}", self.batch
        yield "POST", "/v1/batches/{batch}/cancel", self.cancel

    def close(self) -> None:
        for batch in self._batches.values():
            if batch.task is not None:
                batch.task.cancel()

    # Files -----------------------------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        if not self._room_for(int(request.headers.get("content-length", "0"))):
            raise HTTPException(429, "Files of batches at work take all the room; try again when one is over.")
        async with _bounded(request).form(max_files=1, max_fields=10) as form:
            sent = form.get("file")
            if form.get("purpose") != "batch" or sent is None or isinstance(sent, str):
                raise HTTPException(400, "Send a file and the purpose batch.")
            raw = await sent.read(LARGEST_FILE + 1)
            if len(raw) > LARGEST_FILE:
                raise HTTPException(413, f"A file may hold {LARGEST_FILE} bytes.")
            if not self._room_for(len(raw)):
                raise HTTPException(429, "Files of batches at work take all the room; try again when one is over.")
            return as_json(self._keep(raw, str(sent.filename or "file")[:200], "batch"))

    async def file(self, request: Request) -> Response:
        return as_json(self._found(request)[0])

    async def content(self, request: Request) -> Response:
        return Response(self._found(request)[1], media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        facts, _ = self._found(request)
        del self._files[facts["id"]]
        return as_json({"id": facts["id"], "object": "file", "deleted": True})

    def _keep(self, raw: bytes, name: str, purpose: str) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "id": f"file-{secrets.token_hex(12)}",
            "object": "file",
            "bytes": len(raw),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
        }
        self._files[facts["id"]] = (facts, raw)
        return facts

    def _room_for(self, size: int) -> bool:
        """Whether a file of this size fits, once the oldest that nobody needs are gone."""
        needed = {one.facts["input_file_id"] for one in self._batches.values() if one.facts["status"] not in OVER}
        stored = sum(len(raw) for _, raw in self._files.values())
        idle = [name for name in self._files if name not in needed]
        if stored - sum(len(self._files[name][1]) for name in idle) + size > MOST_STORED:
            return False
        for name in idle:  # the oldest first
            if stored + size <= MOST_STORED:
                break
            stored -= len(self._files.pop(name)[1])
        return True

    def _found(self, request: Request) -> tuple[dict[str, Any], bytes]:
        found = self._files.get(request.path_params["file"])
        if found is None:
            raise HTTPException(404, "There is no such file.")
        return found

    # Batches ---------------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        try:
            asked = orjson.loads(await read_body(request))
            file, endpoint, metadata = asked["input_file_id"], asked["endpoint"], asked.get("metadata") or {}
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            raise HTTPException(400, "Send input_file_id, endpoint and completion_window.") from None
        if not isinstance(file, str) or file not in self._files or endpoint not in ENDPOINTS or not _short(metadata):
            raise HTTPException(400, "The file or the endpoint is unknown, or the metadata is no short object.")
        if sum(one.facts["status"] not in OVER for one in self._batches.values()) >= MOST_AT_WORK:
            raise HTTPException(429, f"{MOST_AT_WORK} batches are at work; try again when one is over.")
        for name in [name for name, one in self._batches.items() if one.facts["status"] in OVER]:
            if len(self._batches) < MOST_BATCHES:
                break
            del self._batches[name]
        facts = {
            "id": f"batch_{secrets.token_hex(12)}",
            "object": "batch",
            "endpoint": endpoint,
            "input_file_id": file,
            "completion_window": str(asked.get("completion_window") or "24h")[:20],
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "created_at": int(time.time()),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": metadata,
        }
        batch = self._batches[str(facts["id"])] = Batch(facts)
        batch.task = asyncio.create_task(self._work(batch))
        return as_json(facts)

    async def batch(self, request: Request) -> Response:
        return as_json(self._known(request).facts)

    async def list(self, request: Request) -> Response:
        """The newest first, `limit` at a time, starting after the batch `after`."""
        every = [batch.facts for batch in reversed(self._batches.values())]
        after = request.query_params.get("after")
        if after is not None:
            every = every[next((n + 1 for n, facts in enumerate(every) if facts["id"] == after), len(every)) :]
        limit = request.query_params.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            raise HTTPException(400, "'limit' must be a number.")
        page = every[: min(int(limit), PAGE)]
        return as_json({"object": "list", "data": page, "has_more": len(every) > len(page)})

    async def cancel(self, request: Request) -> Response:
        batch = self._known(request)
        if batch.facts["status"] not in OVER:
            if batch.task is not None:
                batch.task.cancel()
            batch.facts |= {"status": "cancelled", "cancelled_at": int(time.time())}
        return as_json(batch.facts)

    def _known(self, request: Request) -> Batch:
        batch = self._batches.get(request.path_params["batch"])
        if batch is None:
            raise HTTPException(404, "There is no such batch.")
        return batch

    async def _work(self, batch: Batch) -> None:
        facts, faults = batch.facts, self._faults()
        try:
            lines = _requests(self._files[facts["input_file_id"]][1], facts["endpoint"])
        except ValueError as error:
            facts |= {"status": "failed", "failed_at": int(time.time())}
            facts["errors"] = {"object": "list", "data": [{"code": "invalid_json_line", "message": str(error)}]}
            return
        counts = facts["request_counts"] = {"total": len(lines), "completed": 0, "failed": 0}
        facts["status"] = "in_progress"
        await asyncio.sleep(faults.batch_seconds)
        answered: list[bytes] = []
        failed: list[bytes] = []
        expired = 0
        for custom_id, body in lines:
            if faults.expires(custom_id):
                expired += 1
                failed.append(_line(custom_id, None, {"code": "batch_expired", "message": "This batch has expired."}))
                continue
            said = await self._reply(body)
            response = {"status_code": said.status, "request_id": secrets.token_hex(8), "body": orjson.loads(said.body)}
            good = said.status == 200
            (answered if good else failed).append(_line(custom_id, response, None))
            counts["completed" if good else "failed"] += 1
        for name, file in (("output_file_id", answered), ("error_file_id", failed)):
            if file:
                if not self._room_for(sum(map(len, file))):
                    facts |= {"status": "failed", "failed_at": int(time.time())}
                    facts["errors"] = {"object": "list", "data": [{"code": "storage", "message": "No room is left."}]}
                    return
                facts[name] = self._keep(b"".join(file), f"{facts['id']}.jsonl", "batch_output")["id"]
        status = "expired" if expired else "completed"
        facts |= {"status": status, f"{status}_at": int(time.time())}


def _requests(raw: bytes, endpoint: str) -> list[tuple[str, bytes]]:
    """Id and body of every line.

    Raises:
        ValueError: a line is not as the API wants it.
    """
    lines = [line for line in raw.splitlines() if line.strip()]
    if not 0 < len(lines) <= MOST_LINES:
        raise ValueError(f"A batch holds 1 to {MOST_LINES} requests.")
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        try:
            asked = orjson.loads(line)
            custom_id, method, url = (asked[name] for name in ("custom_id", "method", "url"))
            body = orjson.dumps(asked["body"])  # a TypeError where it nests too deeply
        except (orjson.JSONDecodeError, TypeError, KeyError):
            raise ValueError(f"Line {number} is no request.") from None
        if method != "POST" or url != endpoint or not isinstance(custom_id, str) or custom_id in found:
            raise ValueError(f"Line {number}: its method, url or custom_id cannot be used.")
        found[custom_id] = body
    return list(found.items())


def _line(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    line = {"id": f"batch_req_{secrets.token_hex(8)}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line) + b"\n"


def _short(metadata: Any) -> bool:
    """Whether metadata is an object that OpenAI would take: a few short texts."""
    if not isinstance(metadata, dict) or len(metadata) > LARGEST_METADATA:
        return False
    return all(isinstance(one, str) and len(one) <= LONGEST_METADATA for pair in metadata.items() for one in pair)


def _bounded(request: Request) -> Request:
    """The request, whose form may be as large as a file.

    Raises:
        HTTPException: as soon as more than that has been read; nothing beyond it is kept.
    """
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > LARGEST_FORM:
            raise HTTPException(413, f"A file may hold {LARGEST_FILE} bytes.", headers={"connection": "close"})
        return message

    return Request(request.scope, receive)
