"""What runs, as a file: so that another terminal finds the services, and the next start what a killed one left."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmser_tasks.errors import LlmserError, StorageError
from llmser_tasks.private import write_private
from llmser_tasks.services.environment import Addresses
from llmser_tasks.services.processes import Child

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
        raw = json.loads((home / FILE).read_text(encoding="utf-8"))
        found = State(
            owner=Child(**raw["owner"]),
            marker=raw["marker"],
            addresses=Addresses(**raw["addresses"]),
            children=tuple(Child(**child) for child in raw["children"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    except PermissionError:
        raise StorageError(f"{home / FILE} belongs to another user; set LLMSER_HOME to a folder of yours.") from None
    return found if _is_sound(found) else None


def _is_sound(found: State) -> bool:
    """Whether everything is of its kind: a marker or a process id that is none could name processes of others."""
    where, children = found.addresses, (found.owner, *found.children)
    return (
        isinstance(found.marker, str)
        and bool(found.marker)
        and all(type(port) is int and 0 < port < 2**16 for port in (where.api_port, where.ranker_port))
        and all(isinstance(url, str) for url in (where.airflow_database, where.warehouse))
        and all(type(one.pid) is int and one.pid > 0 and isinstance(one.started, int | float) for one in children)
        and all(isinstance(one.name, str) for one in children)
    )


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
    with (home / LOCK).open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before = read(home)
            where = f" at {before.addresses.api}" if before else ""
            raise AlreadyRunning(f"The services of {home} are already up{where}; `llmser down` stops them.") from None
        yield
