"""Who may speak to a server on this machine: programs that bring its key, and no web page.

A browser that was lured to an attacker's name can be made to send requests to loopback, with that name in `Host` once
its address has been changed (DNS rebinding), or from that page with its `Origin`. Our clients never do either.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Refuse = Callable[[int, str, str | None], Response]


class Guard:
    """Lets requests through that name this server, come from no web page and bring the key."""

    def __init__(
        self, app: ASGIApp, key: str | None, names: Collection[str], open_paths: Collection[str], refuse: Refuse
    ) -> None:
        """
        Args:
            key: the bearer token; None: none is asked for.
            names: hosts that clients may call it by, besides `localhost` and addresses, which no attacker can rename.
            open_paths: what answers without the key.
            refuse: makes the response, of status, sentence and code.
        """
        self._app = app
        self._expected = f"Bearer {key}".encode() if key else None
        self._names = {"localhost", *(name.lower() for name in names)}
        self._open_paths = open_paths
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._is_me(headers.get("host", "")):
            refused = self._refuse(421, "Not the name of this server; start it with --name to add one.", None)
        elif "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            refused = self._refuse(403, "Not for web pages.", None)
        elif scope["path"] not in self._open_paths and not self._has_key(headers):
            refused = self._refuse(401, "Incorrect API key provided.", "invalid_api_key")
        else:
            await self._app(scope, receive, send)
            return
        refused.headers["connection"] = "close"  # else the server would read the rest of the request
        await refused(scope, receive, send)

    def _is_me(self, host: str) -> bool:
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        name = name.lower().removesuffix(".")
        try:
            ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _has_key(self, headers: Headers) -> bool:
        if self._expected is None:
            return True
        return hmac.compare_digest(headers.get("authorization", "").encode(errors="replace"), self._expected)
