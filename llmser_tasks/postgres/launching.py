"""Starting the server's process and stopping it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from pathlib import Path

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import packed
from llmser_tasks.postgres.home import folder_of, locked
from llmser_tasks.postgres.processes import User, children, popen, postmaster, reason, works_in

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # recovery after a crash may take a while


def launch(home: Path, user: User, port: int | None) -> None:
    """Run the server until it is ready, with another port where somebody took ours, and with patience for the
    processes of a killed one, which hold its shared memory until they notice."""
    data, log_file = (folder_of(home) / "data").resolve(), folder_of(home) / "log"
    log_file.touch(mode=0o600)
    deadline = time.monotonic() + PATIENCE_S
    for attempt in range(1, 60):
        chosen = port or free_port()
        before = log_file.stat().st_size
        with log_file.open("ab") as output:
            child = popen(user, [
                packed.binaries(user) / "postgres", "-D", data, "-p", str(chosen), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "logging_collector=off",
                "-c", "log_min_error_statement=panic",  # statements hold users' data; the log tells the error alone
            ], output.fileno())  # fmt: skip
        children[child.pid] = child
        written = before
        while child.poll() is None and time.monotonic() < deadline:
            found = postmaster(data)
            if found is not None and found.ready:
                return
            if (size := log_file.stat().st_size) != written:  # it recovers, and says every ten seconds how far it is
                written, deadline = size, time.monotonic() + PATIENCE_S
            time.sleep(0.02)
        if child.poll() is None:
            child.send_signal(signal.SIGQUIT)
            child.wait()
            raise StorageError(f"Postgres below {home} was not ready after {PATIENCE_S:.0f} s; see {log_file}.")
        del children[child.pid]
        with log_file.open("rb") as output_of:
            output_of.seek(before)
            said = output_of.read().decode(errors="replace")
        taken = "Address already in use" in said
        if taken and port is not None:
            raise StorageError(f"Port {port} of 127.0.0.1 is taken; choose another one, or none.")
        lingering = "shared memory block" in said
        if not (taken or lingering) or time.monotonic() > deadline:
            raise StorageError(f"Postgres below {home} does not start: {reason(said)}")
        log.info("Postgres did not start (attempt %d); trying again", attempt)
        time.sleep(0.5 if lingering else 0)
    raise StorageError(f"Postgres below {home} found no free port; see {log_file}.")


def stop(home: Path) -> bool:
    """Shut the server of this home down, open transactions rolled back; False where none ran."""
    if not folder_of(home).is_dir():
        return False
    with locked(home):
        return halt(home)


def halt(home: Path) -> bool:
    data = folder_of(home) / "data"
    (folder_of(home) / "on-demand").unlink(missing_ok=True)
    found = postmaster(data)
    if found is None:
        return False
    for sent, patience in ((signal.SIGINT, 60.0), (signal.SIGQUIT, 20.0)):  # fast, then immediate shutdown
        try:
            os.kill(found.pid, sent)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience
        while works_in(found.pid, data.resolve()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            children.pop(found.pid, None)
            return True
    raise StorageError(f"Postgres (process {found.pid}) below {home} does not stop; see {folder_of(home) / 'log'}.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
