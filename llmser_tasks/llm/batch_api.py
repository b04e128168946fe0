"""A provider's Batch API over the wire: OpenAI's, and GLM's, which is the same below another version.

A few requests per batch of thousands of questions, so they go one after the other. Each may be repeated: what was
uploaded twice costs nothing, and a batch is only created by a caller who has looked whether it is there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import orjson

from llmser_tasks import __version__
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import Retriable, Timeout, Unavailable, Unreachable, classify
from llmser_tasks.llm.transport import tls

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line per request, at INFO

WAITS_S = (1.0, 3.0, 9.0)  # between attempts of one request
UPLOAD_S = 300.0  # for a file of 100 MB
PAGES = 20  # of the list of batches looked through for ours
PAGE = 100
OVER = {"completed", "failed", "expired", "cancelled"}


class BatchApi:
    """Files and batches of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        headers = {"accept": "application/json", "user-agent": f"llmser/{__version__}"}
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        self._http = httpx.Client(
            verify=tls(),
            trust_env=not endpoint.is_local,
            headers=headers,
            timeout=httpx.Timeout(max(UPLOAD_S, endpoint.timeout_s), connect=10),
            follow_redirects=False,  # one could carry the key to another host
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def chat_path(self) -> str:
        """What each line of a batch asks for: /v1/chat/completions, of GLM /v4/chat/completions."""
        return f"/{urlsplit(self._endpoint.url).path.rsplit('/', 1)[-1] or 'v1'}/chat/completions"

    def upload(self, lines: bytes) -> str:
        """The id of a new input file."""
        files = {"file": ("questions.jsonl", lines, "application/jsonl")}
        return str(self._json("POST", "files", data={"purpose": "batch"}, files=files)["id"])

    def create(self, input_file: str, mark: str) -> str:
        """The id of a new batch."""
        asked = {
            "input_file_id": input_file,
            "endpoint": self.chat_path,
            "completion_window": "24h",
            "metadata": {"llmser": mark},
        }
        return str(self._json("POST", "batches", content=orjson.dumps(asked))["id"])

    def find(self, input_file: str, mark: str) -> str | None:
        """The batch that was made of this file or carries this mark, if there is one."""
        after: dict[str, str] = {}
        for _ in range(PAGES):
            page = self._json("GET", "batches", params={"limit": str(PAGE), **after})
            listed = [one for one in page.get("data") or [] if isinstance(one, dict)]
            for one in listed:
                metadata = one.get("metadata")
                marked = isinstance(metadata, dict) and metadata.get("llmser") == mark
                if marked or one.get("input_file_id") == input_file:
                    return str(one["id"])
            if not page.get("has_more") or not listed:
                break
            after = {"after": str(listed[-1]["id"])}
        return None

    def get(self, batch: str) -> dict[str, Any]:
        return self._json("GET", f"batches/{batch}")

    def lines(self, file: str) -> Iterator[dict[str, Any]]:
        """The objects of an output or error file; what is none is passed over."""
        for line in self._send("GET", f"files/{file}/content").splitlines():
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                yield found

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            found = orjson.loads(self._send(method, path, **request))
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(f"LLM endpoint {self._endpoint.name} answered {path} with something that is no object.")
        return found

    def _send(self, method: str, path: str, **request: Any) -> bytes:
        """The response's body; passing failures are tried again.

        Raises:
            LlmError: as `classify` says.
        """
        if "content" in request:
            request["headers"] = {"content-type": "application/json"}
        for wait in (*WAITS_S, None):
            try:
                return self._once(method, path, request)
            except Retriable as error:
                if wait is None:
                    raise
                time.sleep(min(error.retry_after or wait, 60.0))
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, request: dict[str, Any]) -> bytes:
        where = f"LLM endpoint {self._endpoint.name} at {self._endpoint.url}"
        try:
            response = self._http.request(method, f"{self._endpoint.url}/{path}", **request)
        except httpx.TimeoutException:
            problem: Retriable = Timeout(f"{where} did not answer {path} in time.")
        except httpx.ConnectError:
            problem = Unreachable(f"{where} cannot be reached; check that it runs and that the URL is right.")
        except httpx.HTTPError as error:
            problem = Unavailable(f"{where} broke off its response ({type(error).__name__}).")
        else:
            if response.status_code == 200:
                return response.content
            raise classify(self._endpoint, response.status_code, response.headers, response.content)
        raise problem
