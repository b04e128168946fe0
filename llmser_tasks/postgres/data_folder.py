"""The folder that holds the databases: made whole or not at all, and cleared of what a killed server left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import processes
from llmser_tasks.postgres.home import ADMIN, folder_of, passwords
from llmser_tasks.postgres.packed import shared_folder
from llmser_tasks.postgres.processes import User, reaches, reason, works_in


def initialise(home: Path, user: User, programs: Path) -> None:
    """Make the data folder: built aside and renamed, so that an interrupted attempt leaves nothing to start from."""
    folder = folder_of(home)
    if (folder / "data").is_symlink():
        raise StorageError(
            f"{folder / 'data'} points to {(folder / 'data').readlink()}, which is gone; "
            f"restore it, or remove {folder} to start afresh."
        )
    known = passwords(home)
    place = folder if reaches(user, folder) else shared_folder("data-")
    for left in place.glob("partial-*"):
        shutil.rmtree(left, ignore_errors=True)  # an initdb whose parent was killed may still write there
    try:
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=place))
        password_file = partial / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(known[ADMIN], encoding="utf-8")
        if user is not None:
            os.chown(partial, user.pw_uid, user.pw_gid)
            os.chown(password_file, user.pw_uid, user.pw_gid)
        code, output = processes.run(
            user, programs / "initdb", "-D", partial / "data", f"--username={ADMIN}", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",  # seconds; should the power fail within the next minute, there was nothing in it to lose
        )  # fmt: skip
        if code != 0:
            raise StorageError(f"Cannot make the database below {place}: {reason(output)}")
        (partial / "data").rename(place / "data")
        if place != folder:
            (folder / "data").symlink_to(place / "data")
    except OSError as error:
        raise StorageError(f"Cannot make the database below {place}: {error.strerror or error}.") from None
    finally:
        for left in place.glob("partial-*"):
            shutil.rmtree(left, ignore_errors=True)


def clear_stale(data: Path) -> None:
    """Remove the postmaster.pid of a server that was killed.

    Postgres does so itself unless the pid lives again as another process. The file also guards against starting beside
    the killed server's last processes, so those are waited for.
    """
    if not (data / "postmaster.pid").exists():
        return
    deadline = time.monotonic() + 20
    while any(works_in(p.pid, data) for p in psutil.process_iter()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not any(works_in(p.pid, data) for p in psutil.process_iter()):
        (data / "postmaster.pid").unlink(missing_ok=True)
