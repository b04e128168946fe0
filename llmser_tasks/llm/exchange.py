"""One request and its response within bounds: whoever answers, it costs so many bytes and so many seconds at most.

All bounds on what an endpoint may send stand here. Nothing that it sends is decompressed: we ask for no encoding, and
604 bytes of gzip within gzip become two gigabytes. aiohttp bounds the headers (8 KiB a line, 128 lines).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import httpx

from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import EndpointUnsupported, LlmError, Timeout, Unavailable, Unreachable

LARGEST_RESPONSE = 4 << 20  # bytes; an answer has some hundred
LARGEST_ERROR = 1 << 20  # bytes read of an error; servers that repeat the request in it stay below
LARGEST_LINE = LARGEST_RESPONSE  # of a file of answers: a response and its custom_id
FILE_BYTES_PER_QUESTION = 64 << 10  # on average; thinking included, some thousand are usual
SMALLEST_FILE_BOUND = 64 << 20  # bytes that any file of answers may have
FILE_S = 1800.0  # for a file of answers, however large
UPLOAD_S = 300.0  # for a file of questions, which has 90 MiB at most
SILENCE_S = 60.0  # between two parts of a file
DRIVER = (TimeoutError, httpx.HTTPError, aiohttp.ClientError, OSError)  # what it raises where no response comes
# What is no encoding; charsets are named here by mistake.
PLAIN = ("", "identity", "utf-8", "utf8")


async def exchange(
    transport: httpx.AsyncBaseTransport,
    endpoint: Endpoint,
    request: httpx.Request,
    within_s: float,
    what: str = "",
    most: int = LARGEST_RESPONSE,
) -> tuple[int, httpx.Headers, bytes]:
    """Status, headers and body of the response; of an error, the body's first LARGEST_ERROR bytes.

    Args:
        within_s: seconds for everything, from connecting to the last byte.
        what: the part of the endpoint that is asked, for the sentence.
        most: bytes of a good response.

    Raises:
        LlmError: there is no response, or none that could be an answer.
    """
    try:
        async with asyncio.timeout(within_s):
            response = await transport.handle_async_request(request)
            try:
                return response.status_code, response.headers, await _body(endpoint, response, what, most)
            finally:
                await response.aclose()
    except DRIVER as error:
        problem = _explained(error, endpoint, within_s, what)
    raise problem


async def download(
    transport: httpx.AsyncBaseTransport,
    endpoint: Endpoint,
    request: httpx.Request,
    most: int,
    what: str,
) -> AsyncGenerator[bytes]:
    """The body of a response, part by part, within FILE_S seconds. Each part may be awaited in a task of its own.

    Args:
        most: bytes of the body.

    Raises:
        LlmError: the response is an error, breaks off, or is larger.
    """
    deadline = asyncio.get_running_loop().time() + FILE_S
    try:
        async with asyncio.timeout_at(deadline):
            response = await transport.handle_async_request(request)
        try:
            if response.status_code != 200:
                async with asyncio.timeout_at(deadline):
                    body = await _body(endpoint, response, what)
                raise classify(endpoint, response.status_code, response.headers, body)
            _refuse_encoding(endpoint, response, what)
            parts, size = _parts(response), 0
            while True:
                async with asyncio.timeout_at(deadline):
                    part = await anext(parts, None)
                if part is None:
                    return
                size += len(part)
                if size > most:
                    raise EndpointUnsupported(
                        f"{_where(endpoint)} sends more than {most >> 20} MiB as {what}, which no answers to these "
                        "questions have; look at what it is there, then rerun."
                    )
                yield part
        finally:
            await response.aclose()
    except DRIVER as error:
        problem = _explained(error, endpoint, FILE_S, what)
    raise problem


async def _body(endpoint: Endpoint, response: httpx.Response, what: str, most: int = LARGEST_RESPONSE) -> bytes:
    good = response.status_code == 200
    if good:
        _refuse_encoding(endpoint, response, what)
    elif _encoding(response) not in PLAIN:  # the status says enough
        return b""
    parts: list[bytes] = []
    left = most if good else LARGEST_ERROR
    async for part in _parts(response):
        left -= len(part)
        if left < 0:
            if good:
                raise Unavailable(f"{_where(endpoint)} sends more than {most >> 20} MiB as an answer.")
            break
        parts.append(part)
    return b"".join(parts)


def _parts(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it came over the wire; httpx' own ways would decompress it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream)


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", "")).strip().lower()


def _refuse_encoding(endpoint: Endpoint, response: httpx.Response, what: str) -> None:
    encoding = _encoding(response)
    if encoding not in PLAIN:
        raise Unavailable(
            f"{_where(endpoint)} compresses {what or 'its answers'} (content-encoding {clean_title(encoding, 40)}), "
            "which it was not asked for; check that its URL is right, or switch that off in whatever stands between."
        )


def _explained(error: Exception, endpoint: Endpoint, within_s: float, what: str) -> LlmError:
    """The class of error that says what kept a response away.

    To be raised outside of the `except`, not chained: the driver's exceptions carry the request, and that the key.
    """
    problem = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    where, asked = _where(endpoint), f" {what}" if what else ""
    late = isinstance(problem, TimeoutError) and not isinstance(problem, aiohttp.ConnectionTimeoutError)
    if late:
        return Timeout(f"{where} did not answer{asked} within {within_s:g} s.")
    if isinstance(problem, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        detail = clean_title(str(problem), 160) or type(problem).__name__
        return Unreachable(
            f"{where} cannot be reached ({detail}); check that it runs, that the URL is right, and that no "
            "firewall or proxy stands between."
        )
    return Unavailable(f"{where} broke off its response{asked and f' to{asked}'} ({type(problem).__name__}).")


def _where(endpoint: Endpoint) -> str:
    return f"LLM endpoint {endpoint.name} at {endpoint.url}"
