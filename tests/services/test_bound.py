"""Forks end with their parent, down to the last, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from patience import until

FORKS = r"""
import os, sys, threading, time
from llmser_tasks.services.bound import bind_forks

bind_forks()
if os.fork() == 0:                      # a worker of a scheduler …
    if os.fork() == 0:                  # … and its task
        os.write(1, b"%d %d\n" % (os.getpid(), os.getppid()))  # whole lines, however the two are interleaved
    time.sleep(60)

def elsewhere():
    if (child := os.fork()) == 0:
        time.sleep(60)
    os.write(1, b"%d\n" % child)

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_a_killed_parent_takes_its_forks_along_and_theirs() -> None:
    parent = subprocess.Popen([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    said = sorted((parent.stdout.readline().split(), parent.stdout.readline().split()), key=len)
    (elsewhere,), bound = ([int(pid) for pid in line] for line in said)
    try:
        assert alive(elsewhere), "its thread has ended, it has not"
        assert all(map(alive, bound))
        parent.kill()
        parent.wait()
        until(lambda: not any(map(alive, bound)))
        assert alive(elsewhere)
    finally:
        parent.kill()
        os.kill(elsewhere, signal.SIGKILL)


def test_a_program_starts_as_if_it_were_called_by_itself(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "llmser_tasks.services.bound", "tool", "--wide", "open"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "__main__ ['--wide', 'open']\n"
