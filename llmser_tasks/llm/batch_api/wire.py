"""A provider's Batch API over the wire: OpenAI's, and GLM's, which is the same below another version.

A few requests per batch of thousands of questions, so they go one after the other, over the same wire and within the
same bounds as single questions (`exchange`). Each may be repeated: what was uploaded twice costs nothing, and a batch
is only created by a caller who has looked whether it is there.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx
import orjson

from llmser_tasks import __version__
from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import Retriable, Unavailable
from llmser_tasks.llm.exchange import (
    FILE_BYTES_PER_QUESTION,
    LARGEST_LINE,
    SILENCE_S,
    SMALLEST_FILE_BOUND,
    UPLOAD_S,
    download,
    exchange,
)
from llmser_tasks.llm.transport import transport

WAITS_S = (1.0, 3.0, 9.0)  # between attempts of one request
LONGEST_WAIT_S = 60.0
CONNECT_S = 10.0
PAGES = 20  # of the list of batches looked through for ours
PAGE = 100
LONGEST_ID = 512  # characters; the longest known, of LiteLLM's proxy, have some 200
OVER = {"completed", "failed", "expired", "cancelled"}


class BatchApi:
    """Files and batches of one endpoint. Not for use inside an event loop: it has its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"llmser/{__version__}",
        } | endpoint.credentials
        self._runner = asyncio.Runner()
        self._transport = transport(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._transport.aclose())
        self._runner.close()

    @property
    def chat_path(self) -> str:
        """What each line of a batch asks for: /v1/chat/completions, of GLM /v4/chat/completions."""
        return f"/{urlsplit(self._endpoint.url).path.rsplit('/', 1)[-1] or 'v1'}/chat/completions"

    def upload(self, lines: bytes) -> str:
        """The id of a new input file."""
        facts = self._json("POST", "files", {"purpose": "batch"}, file=lines, within_s=UPLOAD_S)
        return self._id(facts.get("id"), "files")

    def create(self, input_file: str, mark: str) -> str:
        """The id of a new batch."""
        asked = {
            "input_file_id": input_file,
            "endpoint": self.chat_path,
            "completion_window": "24h",
            "metadata": {"llmser": mark},
        }
        return self._id(self._json("POST", "batches", asked).get("id"), "batches")

    def find(self, input_file: str, mark: str) -> str | None:
        """The batch that was made of this file or carries this mark, if there is one."""
        after: dict[str, str] = {}
        for _ in range(PAGES):
            page = self._json("GET", "batches", {"limit": str(PAGE), **after})
            data = page.get("data")
            listed = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
            for one in listed:
                metadata = one.get("metadata")
                marked = isinstance(metadata, dict) and metadata.get("llmser") == mark
                if marked or (input_file and one.get("input_file_id") == input_file):
                    return self._id(one.get("id"), "batches")
            if not page.get("has_more") or not listed:
                break
            after = {"after": self._id(listed[-1].get("id"), "batches")}
        return None

    def get(self, batch: str) -> dict[str, Any]:
        """What is known of a batch; its status is a clean line."""
        facts = self._json("GET", f"batches/{quote(batch, safe='')}")
        return facts | {"status": clean_title(facts.get("status"), 40)}

    def lines(self, file: Any, questions: int) -> Iterator[dict[str, Any]]:
        """The objects of an output or error file, as they come; what is none, or is too long, is passed over.

        A download that breaks off begins again, so a line may come twice.

        Args:
            questions: that were asked in the batch: they bound the file.

        Raises:
            LlmError: it cannot be had, or is larger than answers to so many questions can be.
        """
        path = f"files/{quote(self._id(file, 'batches'), safe='')}/content"
        most = max(SMALLEST_FILE_BOUND, questions * FILE_BYTES_PER_QUESTION)
        for wait in (*WAITS_S, None):
            try:
                for line in _lines(self._download(path, most)):
                    try:
                        found = orjson.loads(line)
                    except orjson.JSONDecodeError:
                        continue
                    if isinstance(found, dict):
                        yield found
                return
            except Retriable as error:
                _wait(error, wait)

    def _download(self, path: str, most: int) -> Iterator[bytes]:
        """A file's bytes, part by part."""
        request = self._request("GET", path, None, None)
        parts = download(self._transport, self._endpoint, request, most, path)

        async def next_part() -> bytes | None:
            return await anext(parts, None)

        try:
            while (part := self._runner.run(next_part())) is not None:
                yield part
        finally:
            self._runner.run(parts.aclose())

    def _id(self, value: Any, path: str) -> str:
        """An id that the provider gave: text or a number, and no way to another address."""
        given = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(given, str) or not 0 < len(given) <= LONGEST_ID:
            raise self._odd(path, "an object without a usable id")
        if not (given.isascii() and given.isprintable()) or " " in given or not given.strip("."):
            raise self._odd(path, "an object without a usable id")
        return given

    def _odd(self, path: str, what: str) -> Unavailable:
        where = f"LLM endpoint {self._endpoint.name} at {self._endpoint.url}"
        return Unavailable(f"{where} answered {path} with {what}; check that it has a Batch API.")

    def _json(self, method: str, path: str, values: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The object that answers a request; passing failures are tried again.

        Raises:
            LlmError: as `classify` says.
        """
        for wait in (*WAITS_S, None):
            try:
                return self._once(method, path, values, **more)
            except Retriable as error:
                _wait(error, wait)
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        path: str,
        values: dict[str, Any] | None,
        file: bytes | None = None,
        within_s: float | None = None,
    ) -> dict[str, Any]:
        request = self._request(method, path, values, file)
        seconds = max(within_s or SILENCE_S, self._endpoint.timeout_s)
        status, headers, raw = self._runner.run(exchange(self._transport, self._endpoint, request, seconds, path))
        if status != 200:
            raise classify(self._endpoint, status, headers, raw)
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise self._odd(path, "something that is no object")
        return found

    def _request(self, method: str, path: str, values: dict[str, Any] | None, file: bytes | None) -> httpx.Request:
        """A file goes out as a form with the values beside it, POST sends them as JSON, GET in the address."""
        how: dict[str, Any] = {}
        if file is not None:
            how = {"data": values, "files": {"file": ("questions.jsonl", io.BytesIO(file), "application/jsonl")}}
        elif method == "POST":
            how = {"json": values}
        query = values if method == "GET" and values else {}  # httpx would put them in the place of the address' own
        read = max(SILENCE_S, self._endpoint.timeout_s)
        timeout = httpx.Timeout(read, connect=CONNECT_S).as_dict()
        url = self._endpoint.address(path, query)
        return httpx.Request(method, url, headers=self._headers, extensions={"timeout": timeout}, **how)


def _wait(error: Retriable, wait: float | None) -> None:
    """Wait before the next attempt; `error` again where that was the last."""
    if wait is None:
        raise error
    time.sleep(min(error.retry_after or wait, LONGEST_WAIT_S))


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a body; of one that is longer than LARGEST_LINE, nothing."""
    pieces: list[bytes] = []
    size = 0
    for part in parts:
        *ended, rest = part.split(b"\n")
        for piece in ended:
            if size + len(piece) <= LARGEST_LINE:
                yield b"".join((*pieces, piece))
            pieces, size = [], 0
        size += len(rest)
        if size > LARGEST_LINE:
            pieces = []
        else:
            pieces.append(rest)
    if size <= LARGEST_LINE:
        yield b"".join(pieces)
