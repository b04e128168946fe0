"""The services that `llmser up` keeps up, and the faults that their ranker shows for a while.

The ranker lets itself be changed where the services were started with LLMSER_RANKER_FAULTS set, be it to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from llmser_tasks.core import environment
from llmser_tasks.services import stack
from llmser_tasks.services.stack import Stack


def running() -> Stack:
    here = stack.attached(environment.home())
    if here is None:
        raise SystemExit("The services are not up; start them with `llmser up`.")
    return here


def ranker(here: Stack) -> str:
    """Where the ranker tells and is told, beside its API."""
    return here.addresses.ranker.removesuffix("/v1")


def asking(here: Stack) -> httpx.Client:
    """A client with the ranker's key."""
    return httpx.Client(trust_env=False, headers={"authorization": f"Bearer {here.ranker_key}"})


@contextmanager
def faulty(here: Stack, spec: str) -> Iterator[None]:
    """The ranker shows this fault until the block ends."""
    with asking(here) as client:

        def show(spec: str) -> None:
            client.post(f"{ranker(here)}/faults", json={"spec": spec}).raise_for_status()

        try:
            show(spec)
            yield
        finally:
            show("")
