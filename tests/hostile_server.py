"""A server over raw sockets that sends what a test wants, right or wrong, and counts what it got rid of."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

Script = Callable[[str, bytes], Iterable[bytes]]

PART = b"x" * (64 << 10)


class Hostile:
    """`script(path, body)` makes what is sent to a request, part by part; then the connection is closed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[str] = []  # paths, in order
        self.heads: list[str] = []
        self.sent = 0  # bytes that the network took, all requests together
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)  # what is sent is then mostly read, too
            head, _, body = b"", b"", b""
            while b"\r\n\r\n" not in head:
                received = client.recv(64 << 10)
                if not received:
                    return
                head += received
            head, _, body = head.partition(b"\r\n\r\n")
            said = head.decode("latin-1")
            sizes = [line.split(":")[1] for line in said.splitlines() if line.lower().startswith("content-length:")]
            while len(body) < int(sizes[0] if sizes else 0):
                received = client.recv(1 << 20)
                if not received:
                    return
                body += received
            path = said.split(" ")[1]
            self.heads.append(said)
            self.asked.append(path)
            for part in self.script(path, body):
                if self._over.is_set():
                    return
                client.sendall(part)
                self.sent += len(part)


@contextmanager
def hostile(script: Script) -> Iterator[Hostile]:
    server = Hostile(script)
    try:
        yield server
    finally:
        server.stop()


def head(status: int = 200, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "content-type: application/json", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: Any, status: int = 200, **headers: Any) -> list[bytes]:
    """A response with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [head(status, content_length=len(raw), **headers), raw]


def endless(status: int = 200) -> Iterator[bytes]:
    """A body without end."""
    yield head(status)
    while True:
        yield PART


def dripping(first: bytes) -> Iterator[bytes]:
    """A byte now and then, for ever."""
    yield first
    while True:
        yield b"x"
        time.sleep(0.02)


@cache
def bomb(size: int, rounds: int) -> list[bytes]:
    """A small response that is `size` bytes once it is decompressed as often as it says."""
    raw = b" " * size
    for _ in range(rounds):
        raw = gzip.compress(raw)
    return whole(raw, content_encoding=", ".join(["gzip"] * rounds))
