"""What runs, as a file: so that another terminal finds the services, and the next start what a killed one left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from llmser_tasks.core.errors import LlmserError, StorageError
from llmser_tasks.core.private import write_private
from llmser_tasks.services.airflow_settings import Addresses
from llmser_tasks.services.processes import Child

FILE = "run.json"
LOCK = ".run.lock"


class AlreadyRunning(LlmserError):
    """The services of this home run in another process."""


@dataclass(frozen=True)
class State:
    owner: Child  # the process that keeps the services up
    marker: str  # in the environment of every process it started
    addresses: Addresses | None = None  # known once Postgres runs
    children: tuple[Child, ...] = ()
    waiting_for: str = ""  # what is still missing before the services can be used; nothing where they can

    @property
    def at(self) -> str:
        """Where the page is, for a sentence."""
        return f" at {self.addresses.api}" if self.addresses else ""


def read(home: Path) -> State | None:
    """The last state; its processes may be gone."""
    try:
        raw = json.loads((home / FILE).read_text(encoding="utf-8"))
        found = State(
            owner=Child(**raw["owner"]),
            marker=raw["marker"],
            addresses=Addresses(**raw["addresses"]) if raw["addresses"] else None,
            children=tuple(Child(**child) for child in raw["children"]),
            waiting_for=raw.get("waiting_for", ""),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    except PermissionError:
        raise StorageError(f"{home / FILE} belongs to another user; set LLMSER_HOME to a folder of yours.") from None
    return found if _is_sound(found) else None


def _is_sound(found: State) -> bool:
    """Whether every value is of its type: a wrong marker or process id could name processes of others."""
    where, children = found.addresses, (found.owner, *found.children)
    return (
        isinstance(found.marker, str)
        and bool(found.marker)
        and (where is None or _are_sound(where))
        and isinstance(found.waiting_for, str)
        and all(type(one.pid) is int and one.pid > 0 and isinstance(one.started, int | float) for one in children)
        and all(isinstance(one.name, str) for one in children)
    )


def _are_sound(where: Addresses) -> bool:
    ports, urls = (where.api_port, where.ranker_port), (where.airflow_database, where.warehouse)
    return all(type(port) is int and 0 < port < 2**16 for port in ports) and all(isinstance(url, str) for url in urls)


def write(home: Path, state: State) -> None:
    """The addresses hold database passwords, so nobody else may read it.

    Raises:
        StorageError: the disk is full, or the home is somebody else's.
    """
    told = {
        "owner": vars(state.owner),
        "marker": state.marker,
        "addresses": vars(state.addresses) if state.addresses else None,
        "children": [vars(child) for child in state.children],
        "waiting_for": state.waiting_for,
    }
    try:
        write_private(home / FILE, json.dumps(told, indent=2))
    except OSError as error:
        raise StorageError(f"Cannot write {home / FILE}: {error.strerror}.") from None


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
            where = before.at if before else ""
            raise AlreadyRunning(f"The services of {home} are already up{where}; `llmser down` stops them.") from None
        yield


def being_started(home: Path) -> bool:
    """Whether a process is about to hold the home: `llmser up &` takes a second or two before it can say so itself."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if process.pid == os.getpid() or not _starts(words):
                continue
            if Path(process.cwd(), process.environ().get("LLMSER_HOME") or ".llmser") == home:
                return True
    return False


def _starts(command: list[str]) -> bool:
    """Whether it is `llmser up` or the demonstration."""
    ours = any(Path(word).name == "llmser" or word == "llmser_tasks.cli" for word in command[:-1])
    return (ours and command[-1] == "up") or "llmser_tasks.services" in command
