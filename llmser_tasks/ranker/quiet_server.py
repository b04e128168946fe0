"""uvicorn for a server that strangers can reach and that stops quietly.

uvicorn does not limit a request's head, and reports every call that it cuts off at shutdown as an error of the
application, with a traceback.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import MutableMapping
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 64 << 10  # bytes of a request before its body
GRACE_S = 2.0  # for calls under way when it is told to end


class QuietServer(uvicorn.Server):
    """Ends calls that are not done after GRACE_S: with 503 if nothing was sent yet, else by cutting them off."""

    def __init__(self, app: ASGIApp) -> None:
        self.ending = False
        super().__init__(
            uvicorn.Config(
                self._quietly(app),
                http=_Bounded,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_keep_alive=75,
            )
        )

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ender = asyncio.create_task(self._end_calls())
        await super().shutdown(sockets)
        ender.cancel()

    def reset(self, client: Any) -> None:
        """Drop the connection of a client, given as in an ASGI scope, so that it sees a reset, not an orderly end."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == client:
                option = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                transport.abort()

    async def _end_calls(self) -> None:
        await asyncio.sleep(GRACE_S)
        self.ending = True
        for task in list(self.server_state.tasks):
            task.cancel()

    def _quietly(self, app: ASGIApp) -> ASGIApp:
        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            begun = False

            async def sending(message: MutableMapping[str, Any]) -> None:
                nonlocal begun
                begun = True
                await send(message)

            try:
                await app(scope, receive, sending)
            except asyncio.CancelledError:
                if not self.ending:
                    raise
                if not begun:
                    await Response(status_code=503, headers={"connection": "close"})(scope, receive, send)
                    return
                self.reset(scope["client"])
                await asyncio.sleep(0)  # until the connection knows that it is lost

        return called


class _Bounded(HttpToolsProtocol):
    """Hangs up on a request whose head is larger than LARGEST_HEAD."""

    _head = 0  # bytes received since the last request's end; -1 within a body

    @override
    def data_received(self, data: bytes) -> None:
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self._head > LARGEST_HEAD:
            self.transport.abort()

    @override
    def on_headers_complete(self) -> None:
        self._head = -1
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._head = 0
        super().on_message_complete()
