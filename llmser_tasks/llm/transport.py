"""The wire: httpx' requests and responses on aiohttp's connections.

httpx' own connection pool collapses beyond some sixteen connections (every request scans all of them). Its client is
left out as well: cookies, redirects and authentication, which an LLM endpoint has no use for, took an eighth of the
CPU time of a request.
"""

from __future__ import annotations

import ssl
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from llmser_tasks.llm.endpoint import Endpoint

KEEP_ALIVE_S = 30.0


def transport(endpoint: Endpoint) -> AiohttpTransport:
    """Connections to the endpoint, as many as it takes requests at once; `aclose` ends them."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=endpoint.max_concurrency, keepalive_timeout=KEEP_ALIVE_S, ssl=tls())
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(verify=tls(), client=session, proxy=_proxy(endpoint))


def _proxy(endpoint: Endpoint) -> httpx.Proxy | None:
    """The environment's proxy, but never between us and this machine."""
    parts = urlsplit(endpoint.url)
    if endpoint.is_local or proxy_bypass(parts.hostname or ""):
        return None
    known = getproxies()
    address = known.get(parts.scheme) or known.get("all")
    if not address:
        return None
    return httpx.Proxy(address if "://" in address else f"http://{address}")


@cache
def tls() -> ssl.SSLContext:
    """One for all: making one takes some 20 ms."""
    return httpx.create_ssl_context()
