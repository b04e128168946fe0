"""What `llmser up` keeps alive: Postgres, the ranker and Airflow's components, each started again when it has ended.

The first restart comes at once, later ones after growing pauses; a component that has stayed up long enough starts from
zero again. Postgres comes first: while it is away nothing else is started, because it could only fail, and what dies in
that time is not counted. So the component that is named when we give up is the cause.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from llmser_tasks.core.errors import LlmserError, StorageError
from llmser_tasks.postgres import embedded
from llmser_tasks.services import processes, state
from llmser_tasks.services.processes import COMPONENT, MARKER, Child
from llmser_tasks.services.state import State
from llmser_tasks.warehouse import server
from llmser_tasks.warehouse.engine import where

PAUSES_S = (0.0, 1.0, 4.0, 15.0, 60.0)  # before each restart; after one more end it is given up
STEADY_S = 180.0  # of being up, after which earlier deaths are forgotten
POSTGRES = "Postgres"
WORKER = "airflow worker"  # how LocalExecutor's processes begin their title

Say = Callable[[str], None]


class ComponentDied(LlmserError):
    """A component ended by itself more often than it is started again."""


@dataclass
class Life:
    """What one component has gone through since it was last steady."""

    since: float  # when it was last started
    deaths: int = 0
    due: float | None = None  # when it is started again; None while it lives


class Components:
    """The processes of one `up`, as they run now."""

    def __init__(
        self,
        now: State,
        home: Path,
        commands: Mapping[str, list[str]],
        variables: Mapping[str, str],
        server: embedded.Server | None,
        say: Say,
    ) -> None:
        """
        Args:
            now: what another terminal reads about us; kept up to date with every start.
            commands: by component; what Python is to run.
            server: the Postgres to keep alive; None where somebody else does.
        """
        self.now = now
        self.home = home
        self.commands = commands
        self.variables = variables
        self.server = server
        self.say = say
        self.children: dict[str, Child] = {}
        self.lives: dict[str, Life] = {POSTGRES: Life(time.monotonic())}
        self._scheduler = 0  # its process, and LocalExecutor's below it when we last looked
        self._workers: set[int] = set()
        self._told_of_postgres = False

    def start(self, name: str) -> Child:
        command = [sys.executable, "-m", *self.commands[name]]
        child = processes.spawn(name, command, {**self.variables, COMPONENT: name}, self.log(name))
        self.children[name] = child
        life = self.lives.setdefault(name, Life(time.monotonic()))
        life.since, life.due = time.monotonic(), None
        self.note(children=tuple(self.children.values()))
        return child

    def note(self, **changes: object) -> None:
        """Tell other terminals."""
        self.now = replace(self.now, **changes)  # type: ignore[arg-type]
        state.write(self.home, self.now)

    def forget(self, name: str) -> None:
        """One that has done its work is not missed."""
        del self.children[name]
        self.note(children=tuple(self.children.values()))

    def sign_of_work(self, name: str) -> object:
        """What changes while a component works: the size of its log and the processor time that it has used."""
        log = self.log(name)
        used = processes.processor_seconds(self.children[name].pid) if name in self.children else 0.0
        return log.stat().st_size if log.exists() else 0, round(used, 1)

    def log(self, name: str) -> Path:
        return self.home / "postgres" / "log" if name == POSTGRES else self.home / "logs" / f"{name}.log"

    def watch(self) -> None:
        """Start again what has ended; to be called every second or so.

        Raises:
            ComponentDied: something keeps ending by itself.
        """
        ended = self.server is not None and embedded.running(self.home) is None
        if ended and not self._revive(POSTGRES, self._start_postgres):
            return
        for name, child in list(self.children.items()):
            if child.process() is None:
                if self._postgres_answers():
                    self._revive(name, partial(self.start, name))
            elif name == "scheduler" and self._lost_a_worker(child):
                self.say("A worker of the scheduler has ended by itself; both are started again.")
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(child.pid).kill()

    def _revive(self, name: str, start: Callable[[], object]) -> bool:
        """Count a death, end what the dead has left behind, and start it again when its pause is over; True then."""
        life = self.lives[name]
        if life.due is None:
            if time.monotonic() - life.since >= STEADY_S:
                life.deaths = 0
            if life.deaths >= len(PAUSES_S):
                raise ComponentDied(f"{_the(name)} keeps ending by itself; see {self.log(name)}.")
            pause = PAUSES_S[life.deaths]
            life.deaths += 1
            life.due = time.monotonic() + pause
            processes.end(processes.marked(self.variables[MARKER], name))
            when = f"in {pause:.0f} s" if pause else "now"
            self.say(f"{_the(name)} has ended by itself and is started again {when}; see {self.log(name)}.")
        if time.monotonic() < life.due:
            return False
        try:
            start()
        except (StorageError, OSError) as error:  # no memory for a process, a full disk: it may pass, as a death may
            life.since, life.due = time.monotonic(), None
            if life.deaths >= len(PAUSES_S):
                raise ComponentDied(f"{_the(name)} cannot be started again: {error}") from None
            return False
        return True

    def _start_postgres(self) -> None:
        """At its old port, which all others know it by."""
        assert self.server is not None
        embedded.start(self.home, self.server.port)
        for name, life in self.lives.items():
            life.due = None
            if name != POSTGRES:
                life.deaths = 0
        self.lives[POSTGRES].since = time.monotonic()
        self.say("Postgres is back.")

    def _postgres_answers(self) -> bool:
        """Whether a Postgres that others look after answers, so that what needs it can be started."""
        if self.server is not None or self.now.addresses is None:
            return True
        for url in (self.now.addresses.airflow_database, self.now.addresses.warehouse):
            if server.answers(url):
                continue
            if not self._told_of_postgres:
                self.say(f"Postgres at {where(url)} does not answer; what has ended is started again once it does.")
            self._told_of_postgres = True
            return False
        self._told_of_postgres = False
        return True

    def _lost_a_worker(self, scheduler: Child) -> bool:
        """Whether a process of LocalExecutor's has ended.

        They share a queue, and one that is killed while it waits there keeps the queue's lock for ever: no task would
        begin any more, and nothing would say so.
        """
        workers = set()
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(scheduler.pid).children():
                with contextlib.suppress(psutil.Error):
                    if one.status() != psutil.STATUS_ZOMBIE and " ".join(one.cmdline()).startswith(WORKER):
                        workers.add(one.pid)
        lost = self._workers - workers if self._scheduler == scheduler.pid else set()
        self._scheduler, self._workers = scheduler.pid, workers
        return bool(lost)


def _the(name: str) -> str:
    return name if name == POSTGRES else f"The {name}"
