"""What a deployment needs once before its services start: both schemas, the pools, the first user.

`python -m llmser_tasks.services.deployment` is the compose file's `init`; it may run any number of times.
"""

from __future__ import annotations

import os
import subprocess
import sys

from llmser_tasks.core.errors import InputError, LlmserError
from llmser_tasks.services.airflow_settings import ADMIN, LLM_SLOTS
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.migrations import migrate


def airflow(*arguments: str) -> str:
    """Run an Airflow command; returns what it printed.

    Raises:
        InputError: it failed; its own words are above.
    """
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise InputError(f"`airflow {' '.join(arguments[:2])}` failed with exit code {done.returncode}; see above.")
    return done.stdout


def prepare(admin_password: str) -> None:
    """Migrate, make the pools where they are missing, make the user `admin` unless somebody has."""
    migrate(address.warehouse())
    airflow("db", "migrate")
    pools = airflow("pools", "list", "--output", "plain")
    for name, slots, purpose in (("gpu", 1, "Trainings at once"), ("llm", LLM_SLOTS, "LLM batches at once")):
        if not any(line.split()[:1] == [name] for line in pools.splitlines()):
            airflow("pools", "set", name, str(slots), purpose)
    names = ("--username", ADMIN, "--firstname", "Admin", "--lastname", "LLMSeR", "--email", "admin@localhost")
    airflow("users", "create", *names, "--role", "Admin", "--password", admin_password)


if __name__ == "__main__":
    try:
        prepare(os.environ["AIRFLOW_ADMIN_PASSWORD"])
    except LlmserError as error:
        sys.exit(str(error))
