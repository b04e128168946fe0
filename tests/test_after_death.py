"""A test run that is ended leaves neither a server nor a folder, however it is ended."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from patience import until

HANGS = """
import sys, time
import pytest

class Hangs:
    def pytest_runtest_call(self, item):
        server = item.funcargs["postgres"]
        print("SERVER", server.pid, server.home, file=sys.__stderr__, flush=True)
        time.sleep(3600)

pytest.main(["-p", "no:cacheprovider", "-p", "no:xdist", "-s", sys.argv[1]], plugins=[Hangs()])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("shell", ["", "trap '' INT QUIT;"], ids=["in front", "in the background"])
def test_an_ended_test_run_leaves_nothing_behind(number: signal.Signals, shell: str) -> None:
    tests = Path(__file__).parent
    python = [sys.executable, "-c", HANGS, str(tests / "warehouse" / "test_rows.py")]
    command = ["sh", "-c", f"{shell} exec {shlex.join(python)}"]
    with subprocess.Popen(command, cwd=tests.parent, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        line = next(line for line in run.stderr if line.startswith("SERVER"))
        _, pid, folder = line.split()
        assert psutil.pid_exists(int(pid)) and Path(folder).is_dir()
        run.send_signal(number)
    until(lambda: not psutil.pid_exists(int(pid)) and not Path(folder).exists())
