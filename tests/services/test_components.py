"""What `llmser up` starts again, in which order, after which pauses, and whom it names when it gives up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from patience import until

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import embedded
from llmser_tasks.services import components as watched
from llmser_tasks.services import processes, readiness
from llmser_tasks.services.components import ComponentDied, Components
from llmser_tasks.services.processes import MARKER
from llmser_tasks.services.state import State

SLEEPS = "import time; time.sleep(3600)"
ENDS = "raise SystemExit(1)"
WITH_A_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]).wait()"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Components]]:
    """Components that are little Python programs."""
    made: list[Components] = []
    for name, code in (("sleeps", SLEEPS), ("ends", ENDS), ("with_a_child", WITH_A_CHILD)):
        (tmp_path / f"{name}.py").write_text(code)

    def build(server: embedded.Server | None = None, home: Path = tmp_path, **programs: str) -> Components:
        commands = {name.replace("_", "-"): [program] for name, program in programs.items()}
        marker = f"test-{os.getpid()}-{len(made)}-{time.monotonic_ns()}"
        variables = os.environ | {MARKER: marker, "PYTHONPATH": str(tmp_path)}
        home.mkdir(exist_ok=True)
        found = Components(State(processes.myself(), marker), home, commands, variables, server, said.append)
        made.append(found)
        for name in commands:
            found.start(name)
        return found

    said: list[str] = []
    build.said = said  # type: ignore[attr-defined]
    yield build
    for one in made:
        processes.stop(one.children.values(), one.variables[MARKER], patience_s=0.1)


def kill(found: Components, name: str) -> None:
    child = found.children[name]
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.process() is None)


def test_restarts_come_after_growing_pauses_and_end(make: Callable[..., Components], clock: Clock) -> None:
    found = make(api_server="ends")
    waited = []
    with pytest.raises(ComponentDied, match=r"The api-server keeps ending by itself; see .*api-server\.log"):
        while True:
            child = found.children["api-server"]
            until(lambda child=child: child.process() is None)
            found.watch()
            before = clock.now
            while found.children["api-server"] is child:
                clock.now += 0.5
                found.watch()
            waited.append(clock.now - before)
    assert waited == sorted(waited) and len(waited) >= 4
    assert waited[0] <= 0.5 and waited[-1] >= 30


def test_old_deaths_are_forgotten(make: Callable[..., Components], clock: Clock) -> None:
    found = make(ranker="sleeps")
    for _ in range(12):  # the fourth in a stack's life once stopped it
        clock.now += watched.STEADY_S
        kill(found, "ranker")
        found.watch()
        assert found.children["ranker"].process() is not None, "the first restart comes at once"


def test_what_a_dead_component_left_is_ended_and_nothing_else(make: Callable[..., Components]) -> None:
    found = make(scheduler="with_a_child", triggerer="with_a_child")
    marker = found.variables[MARKER]
    until(lambda: len(processes.marked(marker)) == 4)
    (orphan,) = psutil.Process(found.children["scheduler"].pid).children()
    (other,) = psutil.Process(found.children["triggerer"].pid).children()
    kill(found, "scheduler")
    found.watch()
    until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert other.is_running() and found.children["triggerer"].process() is not None


def test_a_killed_postgres_comes_back_at_its_port_before_anyone_else_is_started(
    make: Callable[..., Components], open_folder: Path
) -> None:
    home = open_folder / "watched"
    home.mkdir(mode=0o711)
    server = embedded.start(home)
    try:
        found = make(server, home, ranker="sleeps")
        order: list[str] = []
        start, revive = found.start, embedded.start
        found.start = lambda name: (order.append(name), start(name))[1]  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded, "start", lambda *about: (order.append("Postgres"), revive(*about))[1])
            os.kill(server.pid, signal.SIGKILL)
            kill(found, "ranker")
            until(lambda: embedded.running(home) is None)
            found.watch()
        back = embedded.running(home)
        assert back is not None and back.port == server.port and back.pid != server.pid
        assert order == ["Postgres", "ranker"]
    finally:
        embedded.stop(home)


def test_while_postgres_is_away_nobody_else_is_started_and_it_is_named(
    make: Callable[..., Components], open_folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = embedded.Server(1, 1, open_folder, open_folder, {})
    found = make(server, open_folder / "nothing", dag_processor="sleeps")

    def broken(*_: object) -> None:
        raise StorageError("Postgres below … does not start: PANIC.")

    monkeypatch.setattr(embedded, "start", broken)
    kill(found, "dag-processor")
    with pytest.raises(ComponentDied, match=r"^Postgres .*PANIC"):
        for _ in range(1000):
            found.watch()
            clock.now += 1
    assert found.children["dag-processor"].process() is None


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that restarts and waits go by; it moves when a test says so."""
    made = Clock()
    monkeypatch.setattr(watched.time, "monotonic", lambda: made.now)
    return made


class Working:
    """Components of which the test says whether they do something."""

    def __init__(self) -> None:
        self.sign: object = 0
        self.said: list[str] = []
        self.noted: list[str] = []

    def sign_of_work(self, _name: str) -> object:
        return self.sign

    def say(self, line: str) -> None:
        self.said.append(line)

    def note(self, waiting_for: str) -> None:
        self.noted.append(waiting_for)

    def log(self, name: str) -> Path:
        return Path("logs", f"{name}.log")


def test_a_slow_start_is_waited_for_as_long_as_something_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(readiness.time, "monotonic", lambda: now)
    working = Working()
    patience = readiness.Patience(working)  # type: ignore[arg-type]
    for step in range(400):  # more than an hour
        now += 10
        working.sign = step
        patience.for_("api-server", "the API server")
    assert working.noted == ["the API server"] and 50 < len(working.said) < 200, "said now and then, noted once"
    with pytest.raises(
        StorageError, match=r"while we waited for the API server, nothing happened for 300 s; see .*log"
    ):
        for _ in range(40):
            now += 10
            patience.for_("api-server", "the API server")
