"""The status with which somebody else's server answers, whatever else it sends."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


def status_of(method: str, url: str, *, within_s: float, trust_env: bool = True, **request: Any) -> int:
    """Status of the response; its body, which may be endless or come byte by byte, is never read.

    Args:
        within_s: seconds for everything, from connecting to the last header.
        trust_env: whether the environment's proxy is used.

    Raises:
        httpx.HTTPError: it does not answer in time, or not in HTTP.
    """

    async def ask() -> int:
        client = httpx.AsyncClient(timeout=within_s, trust_env=trust_env)
        try:
            async with asyncio.timeout(within_s), client, client.stream(method, url, **request) as response:
                return response.status_code
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {within_s:g} s") from None

    return asyncio.run(ask())
