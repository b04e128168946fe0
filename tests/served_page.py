"""Airflow's API server with our plugin, as a process of its own, without a scheduler: nothing is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from patience import PATIENCE_S, until

from llmser_tasks.services import airflow_settings, processes, secret_store
from llmser_tasks.services.airflow_settings import Addresses

ROLES = ("viewer", "user", "op", "admin")  # each is also a user's name

# Airflow's tables, the DAG as it keeps it, and a runs whose batches 1 and 3 of SNF have failed; all in one
# process, because starting Airflow takes longer than any of it.
PREPARE = """
import sys
from airflow.__main__ import main

run_ids = sys.argv[1:]
for command in (["db", "migrate"], ["dags", "reserialize"]):
    sys.argv = ["airflow", *command]
    main()

from airflow.models.taskinstance import TaskInstance
from airflow.models.taskmap import TaskMap
from airflow.models.dag_version import DagVersion
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from airflow.utils.state import DagRunState
from airflow._shared.timezones.timezone import utcnow

with create_session() as session:
    dag = SerializedDagModel.get_dag("llmser", session=session)
    version = DagVersion.get_latest_version("llmser", session=session)
    before = {"start", "ingest", "sequences", "reverse", "ccg", "forward", "plan_snf", "estimate"}
    for run_id in run_ids:
        run = dag.create_dagrun(run_id=run_id, run_after=utcnow(), run_type=DagRunType.MANUAL,
                                triggered_by=DagRunTriggeredByType.TEST, state=DagRunState.FAILED, session=session)
        for instance in run.get_task_instances(session=session):
            instance.state = "success" if instance.task_id in before else "upstream_failed"
            if instance.task_id == "snf":
                session.delete(instance)
            if instance.task_id == "train_base":
                instance.state = "failed"
        for index in range(5):
            state = "failed" if index in (1, 3) else "success"
            session.add(TaskInstance(dag.get_task("snf"), version.id, run_id, state, index))
        for task, length in (("plan_snf", 5), ("start", 2)):
            session.add(TaskMap("llmser", task, run_id, -1, length, None))
        run.state = DagRunState.FAILED
"""


@dataclass(frozen=True)
class Page:
    """Where it is."""

    url: str
    passwords: dict[str, str]

    def client(self, role: str | None) -> httpx.Client:
        """Somebody of this role, logged in as a browser is: by the cookie; nobody for None."""
        client = httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_S)
        if role is not None:
            client.cookies.set("_token", self.token(role))
        return client

    def token(self, role: str) -> str:
        body = {"username": role, "password": self.passwords[role]}
        answer = httpx.post(f"{self.url}/auth/token", json=body, trust_env=False, timeout=PATIENCE_S)
        return str(answer.raise_for_status().json()["access_token"])


@contextmanager
def served(home: Path, warehouse: str, airflow: str, *broken_runs: str) -> Iterator[Page]:
    home.mkdir(exist_ok=True)
    passwords = {role: f"{role}-password" for role in ROLES}
    port = processes.free_port()
    addresses = Addresses(port, processes.free_port(), airflow, warehouse)
    variables = airflow_settings.build(home, addresses, secret_store.load_or_make(home), "page-test")
    variables |= {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES)}
    (home / "airflow" / "passwords.json").write_text(json.dumps(passwords))

    prepare = [sys.executable, "-c", PREPARE, *broken_runs]
    done = subprocess.run(prepare, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (home / "api-server.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow", "api-server"], env=variables, stdout=log, stderr=subprocess.STDOUT
    )
    page = Page(addresses.api, passwords)
    try:
        until(lambda: _answers(page.url) or process.poll() is not None)
        assert process.poll() is None, (home / "api-server.log").read_text()[-3000:]
        yield page
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", trust_env=False).is_success
    except httpx.TransportError:
        return False
