"""Batches that fail under a scheduler, rerun or accepted from the command line: the run goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S, until
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import COUNTERS, METHODS, TRAINED, USUAL, chain
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, local, stack
from llmser_tasks.warehouse.engine import engine

UNUSUAL = {f"train_{name}" for name in TRAINED if name not in USUAL}
UNUSUAL |= set(chain(METHODS.every())) - set(chain([*USUAL, *COUNTERS]))  # tasks that a usual run skips
SMALL = {
    "dataset": "rerun", "dimension": 16, "epochs": 1, "negatives": 16, "pool": 8, "pseudo_items": 4,
    "reason_pool": 4, "users_per_batch": 75, "sampled_negatives": 10, "gate": 1,  # a model this small may get worse
}  # fmt: skip


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What a webhook was sent; its address comes first."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    received.append({"url": f"http://127.0.0.1:{server.server_port}/hook"})
    yield received
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(open_folder: Path, told: list[dict[str, Any]]) -> Iterator[Path]:
    home = open_folder / "rerun"
    home.mkdir(mode=0o711)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LLMSER"))} | {
        "LLMSER_NOTIFY": "nobody, ops",
        "LLMSER_RANKER_FAULTS": "",  # none yet, but they may be changed
        "AIRFLOW_CONN_OPS": json.dumps({"conn_type": "http", "host": told.pop()["url"]}),
    }
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
        process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        local.down(home)


def llmser(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llmser_tasks.cli", *arguments],
        env=os.environ | {"LLMSER_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_failed_batches_ask_only_for_what_is_missing_or_for_nothing(home: Path, told: list[dict[str, Any]]) -> None:
    here = stack.attached(home)
    assert here is not None
    ranker, warehouse = here.addresses.ranker.removesuffix("/v1"), here.warehouse
    files = write_sample(home / "sample", users=150, items=60, seed=3)
    values = SMALL | {"reviews": str(files.reviews), "items": str(files.items)}
    key = {"authorization": f"Bearer {here.ranker_key}"}
    with here.client() as client, httpx.Client(trust_env=False, headers=key) as faults:

        def over(run_id: str) -> bool:
            return airflow_api.run(client, run_id)["state"] in ("success", "failed")

        def tasks(run_id: str) -> Any:
            return [(t["task_id"], t["map_index"], t["state"]) for t in airflow_api.task_instances(client, run_id)]

        def answered() -> Counter[str]:
            return Counter(faults.get(f"{ranker}/stats").json()["outcomes"])

        def fail(**other: str) -> tuple[str, list[tuple[str, int]]]:
            """A run whose quota is used up in the midst of its questions, and its failed tasks; then there is more."""
            faults.post(f"{ranker}/faults", json={"spec": "arrears=0.1"}).raise_for_status()
            run_id = airflow_api.trigger(client, values | other)
            until(lambda: over(run_id), lambda: tasks(run_id))
            faults.post(f"{ranker}/faults", json={"spec": ""}).raise_for_status()
            failed = airflow_api.failed_tasks(client, run_id)
            assert failed and {task for task, _ in failed} == {"snf"}
            return run_id, failed

        run_id, failed = fail()
        before = answered()
        assert ledger(warehouse) == before["answered"] > 0 and before["arrears"] > 0
        until(lambda: bool(told), lambda: (home / "out").read_text())
        assert [(t["event"], t["run"], t["dataset"]) for t in told] == [("run failed", run_id, "rerun")]
        assert "no quota left" in told[0]["sentence"] and f"llmser rerun-failed {run_id}" in told[0]["then"]

        said = llmser(home, "rerun-failed", run_id, "--wait")
        assert said.startswith(f"Cleared of run {run_id}: {len(failed)} batch") and "of snf (users" in said
        assert {state for task, _, state in tasks(run_id) if task not in UNUSUAL} == {"success"}
        assert answered()["answered"] == ledger(warehouse)  # no question was paid for twice

        events = client.get("/api/v2/assets/events", params={"limit": 100, "source_run_id": run_id}).json()
        made = {event["name"].rsplit("/", 1)[-1]: event["extra"] for event in events["asset_events"]}
        assert {"llmser_interactions", "llmser_ccg", "reliability", "recommendations"} <= set(made)
        assert {(extra["dataset"], extra["run_id"]) for extra in made.values()} == {("rerun", run_id)}
        assert made["llmser_interactions"]["artefact"]["step"] == "ingest"

        run_id, failed = fail(noun="thing that is let go")
        until(lambda: len(told) == 2, lambda: (home / "out").read_text())
        known = ledger(warehouse, "snf")
        said = llmser(home, "accept", run_id, "--wait")
        assert {state for task, _, state in tasks(run_id) if task not in UNUSUAL} == {"success"}
        with engine(warehouse).connect() as connection:
            rows = connection.execute(
                text("select step, batch, state, failed, accepted from batches where run_id = :run"), {"run": run_id}
            ).all()
        without = {(row.step, row.batch): row.accepted for row in rows if row.accepted}
        assert set(without) <= set(failed) and {row.state for row in rows} == {"done"}
        most = int(said.split("at most ")[1].split()[0])
        assert most >= sum(without.values()) > 0, "another batch may have got an answer that two share"
        assert ledger(warehouse, "snf") == known, "nothing more was asked"
        assert [t["event"] for t in told] == ["run failed", "run failed"]


def ledger(warehouse: Warehouse, step: str = "%") -> int:
    with engine(warehouse).connect() as connection:
        return connection.scalar(text("select count(*) from answers where step like :step"), {"step": step}) or 0
