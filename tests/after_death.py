"""`python after_death.py FOLDER`: cleans up after a test run that was killed.

Reads its input, a pipe that the test run holds, to the end: that comes when the run ends, however it does. What then
still works in the folder (a Postgres) or for a home in it (`llmser up` and all that it started) is ended, and the
folder is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil


def left(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            places = [process.cwd()]
            with contextlib.suppress(psutil.Error):
                places.append(process.environ().get("LLMSER_HOME") or "/")
            if process.pid != os.getpid() and any(Path(place).is_relative_to(folder) for place in places):
                found.append(process)
    return found


def clean_up(folder: Path) -> None:
    for _ in range(10):  # a fork may slip between two looks
        if not (processes := left(folder)):
            break
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGQUIT if process.name() == "postgres" else signal.SIGKILL)
        psutil.wait_procs(processes, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    if (folder := Path(sys.argv[1])).is_dir():
        clean_up(folder)
