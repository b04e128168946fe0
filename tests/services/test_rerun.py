"""A batch that fails under a scheduler, cleared: it asks only for what is missing, and the run goes on by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, local, stack
from llmser_tasks.warehouse.engine import engine

PATIENCE_S = 300
SMALL = {
    "dataset": "rerun", "dimension": 16, "epochs": 1, "negatives": 16, "pool": 8, "pseudo_items": 4,
    "reason_pool": 4, "users_per_batch": 75, "sampled_negatives": 10,
}  # fmt: skip


@pytest.fixture
def home(open_folder: Path) -> Iterator[Path]:
    home = open_folder / "rerun"
    home.mkdir(mode=0o711)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LLMSER"))}
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmser_tasks.cli", "up"],
            env=variables | {"LLMSER_HOME": str(home), "LLMSER_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "Ctrl-C stops everything." in (home / "out").read_text(), lambda: (home / "out").read_text())
        yield home
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        local.down(home)


def until(condition: Callable[[], bool], why: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.3)


def test_a_cleared_batch_asks_only_for_what_is_missing(home: Path) -> None:
    here = stack.attached(home)
    assert here is not None
    ranker = here.addresses.ranker.removesuffix("/v1")
    files = write_sample(home / "sample", users=150, items=60, seed=3)
    values = SMALL | {"reviews": str(files.reviews), "items": str(files.items)}
    with here.client() as client, httpx.Client(trust_env=False) as faults:

        def over() -> bool:
            return airflow_api.run(client, run_id)["state"] in ("success", "failed")

        def tasks() -> Any:
            return [(t["task_id"], t["map_index"], t["state"]) for t in airflow_api.task_instances(client, run_id)]

        def answered() -> Counter[str]:
            return Counter(faults.get(f"{ranker}/stats").json()["outcomes"])

        faults.post(f"{ranker}/faults", json={"spec": "arrears=0.03"}).raise_for_status()  # the quota is used up
        run_id = airflow_api.trigger(client, values)
        until(over, tasks)
        failed = [(task, index) for task, index, state in tasks() if state == "failed"]
        assert failed and {task for task, _ in failed} == {"snf"}
        paid = ledger(here.addresses.warehouse)
        before = answered()
        assert paid == before["answered"] > 0 and before["arrears"] > 0

        faults.post(f"{ranker}/faults", json={"spec": ""}).raise_for_status()
        assert airflow_api.clear_failed(client, run_id) == failed
        until(lambda: not over(), tasks)
        until(over, tasks)
        assert {state for *_, state in tasks()} == {"success"}
        assert answered()["answered"] == ledger(here.addresses.warehouse)  # no question was paid for twice
        assert airflow_api.clear_failed(client, run_id) == []


def ledger(database_url: str) -> int:
    with engine(database_url).connect() as connection:
        return connection.scalar(text("select count(*) from answers")) or 0
