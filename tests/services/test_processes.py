"""Our processes are found and ended exactly, however they moved; nobody else's are touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
from patience import until

from llmser_tasks.services import processes
from llmser_tasks.services.processes import MARKER, Child

SLEEPER = "import time; time.sleep(3600)"
# A child that leaves its session, like Airflow's workers, and a parent that ignores SIGTERM, like a busy scheduler.
STUBBORN = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True)
print("ready", flush=True)
time.sleep(3600)
"""


def test_stop_ends_descendants_that_left_the_session_and_parents_that_ignore_sigterm(tmp_path: Path) -> None:
    environment = os.environ | {MARKER: "mine"}
    child = processes.spawn("stubborn", [sys.executable, "-c", STUBBORN], environment, tmp_path / "logs" / "it.log")
    until(lambda: len(processes.marked("mine")) == 2)

    processes.stop([child], "mine", patience_s=0.2)

    assert processes.marked("mine") == []
    assert child.process() is None
    assert (tmp_path / "logs" / "it.log").read_text() == "ready\n"


def test_stop_finds_what_a_killed_parent_left_and_spares_others(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], env=os.environ | {MARKER: "other"})
    try:
        environment = os.environ | {MARKER: "mine"}
        child = processes.spawn("stubborn", [sys.executable, "-c", STUBBORN], environment, tmp_path / "it.log")
        until(lambda: len(processes.marked("mine")) == 2)
        os.kill(child.pid, 9)
        until(lambda: child.process() is None)
        assert len(processes.marked("mine")) == 1

        processes.stop([child], "mine", patience_s=0.2)

        assert processes.marked("mine") == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_reused_pid_is_not_our_child() -> None:
    ours = processes.myself()
    assert ours.process() == psutil.Process()
    assert Child("owner", ours.pid, ours.started - 100).process() is None


def test_free_port_prefers_the_known_one_but_not_a_taken_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert processes.free_port(port) != port
    assert processes.free_port(port) == port
