"""The embedding ranker as a child process, for those who run without the services."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.endpoint import RANKER, Endpoint

STOP_S = 10


@contextmanager
def running(cache: Path) -> Iterator[Endpoint]:
    """Serve on a free loopback port for the length of the block; it ends by itself if this process is killed.

    Its key is made for this block and known to nobody else: the child gets it through its environment.

    Args:
        cache: folder that keeps title embeddings.

    Raises:
        InputError: it does not start; its own message is on stderr.
    """
    command = [
        sys.executable,
        "-m",
        "llmser_tasks.ranker.server",
        "--cache",
        str(cache),
        "--parent-pid",
        str(os.getpid()),
    ]
    key = secrets.token_urlsafe(32)
    process = subprocess.Popen(
        command,
        env=os.environ | {"LLMSER_RANKER_KEY": key},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        if not ready:
            raise InputError("The embedding ranker did not start; its own message on stderr says why.")
        yield Endpoint.from_mapping(RANKER, ready[-1], key, {})
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
