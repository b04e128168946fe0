"""The server as a process: who runs it, whether it lives, and how its programs are started."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from llmser_tasks.core.errors import StorageError

User = pwd.struct_passwd | None
children: dict[int, subprocess.Popen[bytes]] = {}  # what this process started, so that the dead are reaped


@dataclass(frozen=True)
class Postmaster:
    pid: int
    port: int
    ready: bool


def postmaster(data: Path) -> Postmaster | None:
    """The living server of a data folder, by its postmaster.pid.

    After a crash that file stays, and its pid may be a zombie's or somebody else's by now: only a process that works
    in this folder counts.
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise StorageError(f"{data} belongs to another user; set LLMSER_HOME to a folder of yours.") from None
    if len(lines) < 4 or not lines[0].strip().lstrip("-").isdigit():
        return None
    pid = int(lines[0])
    if not works_in(pid, data.resolve()):
        return None
    return Postmaster(pid, int(lines[3]), len(lines) > 7 and lines[7].strip() == "ready")


def works_in(pid: int, folder: Path) -> bool:
    if child := children.get(pid):
        child.poll()
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return False


def server_user(data: Path) -> User:
    """Who runs the server: for root the owner of the data, or an unprivileged user; else (None) whoever we are."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise StorageError(f"{data} belongs to user number {owner}, whom this machine does not know.") from None
    for name in ("llmser", "postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StorageError("Postgres does not run as root, and there is no user llmser, postgres or nobody; add one.")


def popen(user: User, command: list[str | Path], output: int) -> subprocess.Popen[bytes]:
    """Start a program as a user, away from our terminal, folder and environment (which may hold keys)."""
    environment = {k: v for k, v in os.environ.items() if k in {"PATH", "LD_LIBRARY_PATH", "TZ"}} | {"LC_ALL": "C"}
    try:
        return subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as user {user.pw_name}" if user else ""
        raise StorageError(
            f"Cannot run {command[0]}{who}: {error}; set LLMSER_DATABASE_URL to use another Postgres."
        ) from None


def run(user: User, *command: str | Path) -> tuple[int, str]:
    """Exit code and output of a short program."""
    with popen(user, list(command), subprocess.PIPE) as process:
        output, _ = process.communicate()
        return process.returncode, output.decode(errors="replace")


def reaches(user: User, path: Path) -> bool:
    """The user may enter this folder (or run this program). Asked of the system, which knows ACLs and groups."""
    return user is None or run(user, "test", "-x", path)[0] == 0


def reason(output: str) -> str:
    """The line that says why, out of a program's output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    grave = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:"))]
    return (grave or lines or ["it said nothing."])[-1]
