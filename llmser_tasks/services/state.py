"""What runs, as a file: so that another terminal finds the services, and the next start what a killed one left."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmser_tasks.errors import LlmserError
from llmser_tasks.services.environment import Addresses
from llmser_tasks.services.processes import Child
from llmser_tasks.services.secret_store import write_private

FILE = "run.json"
LOCK = ".run.lock"


class AlreadyRunning(LlmserError):
    """The services of this home run in another process."""


@dataclass(frozen=True)
class State:
    owner: Child  # the process that keeps the services up
    marker: str  # in the environment of every process it started
    addresses: Addresses
    children: tuple[Child, ...] = ()


def read(home: Path) -> State | None:
    """The last state; its processes may be gone."""
    try:
        raw = json.loads((home / FILE).read_text())
        return State(
            owner=Child(**raw["owner"]),
            marker=str(raw["marker"]),
            addresses=Addresses(**raw["addresses"]),
            children=tuple(Child(**child) for child in raw["children"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write(home: Path, state: State) -> None:
    """The addresses hold database passwords, so nobody else may read it."""
    write_private(
        home / FILE,
        json.dumps(
            {
                "owner": vars(state.owner),
                "marker": state.marker,
                "addresses": vars(state.addresses),
                "children": [vars(child) for child in state.children],
            },
            indent=2,
        ),
    )


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home; the kernel lets go when the process dies, however it dies.

    Raises:
        AlreadyRunning: another process holds it.
    """
    with (home / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before = read(home)
            where = f" at {before.addresses.api}" if before else ""
            raise AlreadyRunning(f"The services of {home} are already up{where}; `llmser down` stops them.") from None
        yield
