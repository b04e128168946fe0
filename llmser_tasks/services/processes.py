"""Child processes: found again and stopped exactly, even after whoever started them was killed.

Every process of one `up` carries the same random marker in its environment. Airflow forks, re-parents and renames its
children, so neither a parent nor a command line says whose a process is; the marker does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from llmser_tasks.core.private import OTHERS

MARKER = "LLMSER_STACK"
COMPONENT = "LLMSER_COMPONENT"  # in the environment of a component and of all that it starts

_started: dict[int, subprocess.Popen[bytes]] = {}  # our own children, so that the dead are reaped


@dataclass(frozen=True)
class Child:
    """A process, named beyond doubt by its id and start time."""

    name: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process while it is alive and still the one that was started."""
        if (own := _started.get(self.pid)) is not None and own.poll() is not None:
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None

    def wait(self) -> int:
        """Exit code of a child of ours."""
        return _started[self.pid].wait()


def myself() -> Child:
    return Child("owner", os.getpid(), psutil.Process().create_time())


def spawn(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Start a child in a session of its own, so that the terminal's Ctrl-C reaches only us; output goes to `log`.

    What it makes, and its log, nobody else can read.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.touch(mode=0o600)
    log.chmod(0o600)  # an earlier version's
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=OTHERS,
        )
    _started[process.pid] = process
    return Child(name, process.pid, psutil.Process(process.pid).create_time())


def marked(marker: str, component: str | None = None) -> list[psutil.Process]:
    """Every live process that carries the marker, except ourselves; of one component alone, if that is asked."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or (environment := process.environ()).get(MARKER) != marker:
                continue
            if component is None or environment.get(COMPONENT) == component:
                found.append(process)
    return found


def stop(children: Iterable[Child], marker: str, patience_s: float = 2.0) -> None:
    """Ask the children to end, wait, then end whatever still carries the marker. Returns when nothing is left."""
    mains = [process for child in children if (process := child.process())]
    for process in mains:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(mains, timeout=patience_s)
    for _ in range(20):  # a fork may slip between two looks
        left = marked(marker)
        if not left:
            return
        end(left)


def end(left: Iterable[psutil.Process]) -> None:
    """End these at once, and return when they have ended."""
    left = list(left)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=1)


def processor_seconds(pid: int) -> float:
    """What a process and those below it have used of the processor."""
    used = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                used += times.user + times.system
    return used


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody listens on; the preferred one where it is free, so that bookmarks keep working."""
    for port in [preferred] * (preferred is not None) + [0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            chosen: int = probe.getsockname()[1]
            return chosen
    raise OSError("no free port on 127.0.0.1")
