"""The warehouse in one file, and back: by Postgres' own pg_dump and pg_restore, which the embedded server brings."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from llmser_tasks.errors import InputError, StorageError
from llmser_tasks.warehouse.embedded import packed_postgres
from llmser_tasks.warehouse.engine import SCHEMA, parsed, where

NOT_WHOSE = ("--no-owner", "--no-privileges")  # so that it can be put back by whoever the place belongs to


def backup(url: str, file: Path) -> None:
    """Write the schema `llmser` as of now; whoever works meanwhile is not disturbed. The file holds users' data.

    Raises:
        InputError: the file cannot be written.
        StorageError: Postgres is down.
    """
    temporary = file.with_name(f".{file.name}.part")
    try:
        temporary.touch(mode=0o600)
        _run(url, "pg_dump", "--format=custom", *NOT_WHOSE, f"--schema={SCHEMA}", f"--file={temporary}")
        temporary.replace(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); choose another place.") from None
    finally:
        temporary.unlink(missing_ok=True)


def restore(url: str, file: Path) -> None:
    """Put what `backup` wrote in the place of the whole schema, in one transaction.

    Raises:
        InputError: the file is no backup.
        StorageError: Postgres is down, or refuses; everything is as it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        command = [str(packed_postgres() / "bin" / "pg_restore"), *NOT_WHOSE, f"--file={script}", str(file)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise InputError(f"{file} is no backup of the warehouse; `llmser backup` writes one.")
        once = ["--single-transaction", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        _run(url, "psql", *once, f"--command=drop schema if exists {SCHEMA} cascade", f"--file={script}")


def _run(url: str, program: str, *arguments: str) -> None:
    made = parsed(url)
    login = {
        "PGHOST": made.host or "localhost",
        "PGPORT": str(made.port or 5432),
        "PGUSER": made.username or "",
        "PGPASSWORD": str(made.password or ""),  # not among the arguments, which every user of the machine may read
        "PGDATABASE": made.database or "",
    }
    command = [str(packed_postgres() / "bin" / program), *arguments]
    done = subprocess.run(
        command, env=os.environ | login, capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise StorageError(f"{program} at {where(url)} failed: {said[0][:300]}")
