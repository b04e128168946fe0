"""`python -m llmser_tasks.services.bound airflow …`: a program whose forks end with the process that forked them.

Airflow's components fork: a killed scheduler would leave its workers behind, and these their tasks, beside those of the
next one. They cannot be found afterwards by their environment either: Airflow hides that of a process with a task's
token from every user but root. So the kernel is asked to end each fork when its parent dies, however that dies.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def bind_forks() -> None:
    """Let what this process forks from now on, and what those fork, end with its parent.

    A program that is started (exec) is not bound. Nor is what a thread other than the main one forks: to the kernel
    that thread is the parent, and it may end long before its process.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    forking = threading.local()  # threads may fork at the same time

    def before() -> None:
        forking.parent = os.getpid() if threading.current_thread() is threading.main_thread() else None

    def after() -> None:
        if (parent := forking.parent) is None:
            return
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    os.register_at_fork(before=before, after_in_child=after)


if __name__ == "__main__":
    bind_forks()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
