"""The DAG itself, task by task, on a fresh database: from sample dumps to a report, with the embedding ranker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import COUNTERS, METHODS, TRAINED, USUAL, chain
from llmser_tasks.postgres import embedded
from llmser_tasks.ranker import child as embedded_ranker
from llmser_tasks.sample import write_sample
from llmser_tasks.services.airflow_settings import PROJECT, ranker_connection
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.tables import runs

SMALL = {
    "dataset": "sample-amazon", "dimension": 16, "epochs": 2, "negatives": 16, "pool": 8, "pseudo_items": 4,
    "reason_pool": 4, "users_per_batch": 50, "seeds": [1, 2], "sampled_negatives": 10,
}  # fmt: skip
PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DagRunState

sys.path.append(sys.argv[1])
dag = DagBag(sys.argv[1]).dags["llmser"]
for values in json.loads(sys.argv[2]):
    run = dag.test(run_conf=values, logical_date=None)
    print("RESULT", json.dumps([run.run_id, str(run.state), {
        f"{ti.task_id}[{ti.map_index}]": [str(ti.state), ti.rendered_map_index] for ti in run.get_task_instances()
    }]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def results(home: Path, postgres: embedded.Server) -> list[Any]:
    """Runs in one process: a whole one, the same again, one without SNF and ARV, one through the Batch API, one
    of the base alone."""
    files = write_sample(home / "sample", users=120, items=60)
    values = SMALL | {"reviews": str(files.reviews), "items": str(files.items)}
    again = values | {"without": ["snf", "arv"], "seeds": [1]}
    batch = values | {"mode": "batch", "seeds": [1], "noun": "thing by the batch"}  # a new prompt, to ask anew
    alone = values | {"methods": ["base"], "seeds": [1]}
    migrate(Warehouse(postgres.url))
    with embedded_ranker.running(home / "artefacts" / "embeddings") as endpoint:
        environment = os.environ | {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.airflow_url,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW_CONN_LLMSER_RANKER": ranker_connection(endpoint.url, endpoint.key),
            "LLMSER_HOME": str(home),
            "LLMSER_DATABASE_URL": postgres.url,
            "LLMSER_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        run = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(run, env=environment, check=True, capture_output=True)
        run = [sys.executable, "-c", PROGRAM, str(PROJECT / "dags"), json.dumps([values, values, again, batch, alone])]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    (home / "output.log").write_text(done.stdout + done.stderr)
    said = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(said) == 5, (done.stdout + done.stderr)[-4000:]
    return [json.loads(line) for line in said]


NOT_TRAINED = {f"train_{name}" for name in TRAINED if name not in USUAL}
FOR_NOBODY = set(chain(METHODS.every())) - set(chain([*USUAL, *COUNTERS]))
UNUSUAL = tuple(f"{task}[" for task in NOT_TRAINED | FOR_NOBODY)  # tasks that a usual run skips


def steps(warehouse: Warehouse, run_id: str) -> dict[str, str]:
    with queries.read(warehouse, "steps", run_id) as found:
        return {f"{row[0]} {row[1]}".strip(): row[2] for row in found.rows}


def test_every_task_succeeds_and_the_results_are_in_postgres(results: list[Any], postgres: embedded.Server) -> None:
    run_id, state, tasks = results[0]
    assert state == "success"
    assert {how for name, (how, _) in tasks.items() if not name.startswith(UNUSUAL)} == {"success"}
    run = runs.load(Warehouse(postgres.url), run_id)
    assert (run.state, run.synthetic) == ("succeeded", True)
    with transaction(Warehouse(postgres.url)) as connection:
        models = set(connection.scalars(text("select method from metrics where run_id = :run"), {"run": run_id}))
        users = connection.scalar(text("select count(*) from recommendations where run_id = :run"), {"run": run_id})
    assert {"base", "llmser", "popularity", "cooccurrence"} <= models
    assert users and users > 50
    assert "SYNTHETIC" in queries.report(Warehouse(postgres.url), run_id)


def test_mapped_tasks_are_named_after_their_users_and_seeds(results: list[Any]) -> None:
    names = {name for _, name in results[0][2].values() if name}
    assert {"users 0–49", "base, seed 1", "base, seed 2", "LLMSeR, seed 2"} <= names


def test_the_same_run_again_is_skipped_and_says_so(results: list[Any], postgres: embedded.Server) -> None:
    run_id, state, tasks = results[1]
    assert state == "success"
    assert {how for name, (how, _) in tasks.items() if not name.startswith(UNUSUAL)} == {"success"}
    states = steps(Warehouse(postgres.url), run_id)
    made = {"ingest", "sequences", "reverse", "ccg", "forward", "rcs", "pseudo", "reliability", "evaluation"}
    assert {states[name] for name in made} == {"unchanged"}
    with transaction(Warehouse(postgres.url)) as connection:
        calls = connection.scalar(text("select sum(calls) from batches where run_id = :run"), {"run": run_id})
    assert calls == 0


def test_without_the_llm_the_run_still_ends_well(results: list[Any], postgres: embedded.Server) -> None:
    run_id, state, _ = results[2]
    assert state == "success"
    with transaction(Warehouse(postgres.url)) as connection:
        asked = connection.scalar(text("select count(*) from picks where run_id = :run"), {"run": run_id})
        alphas = set(connection.scalars(text("select alpha from reliability where run_id = :run"), {"run": run_id}))
    assert asked == 0
    assert alphas <= {0.0, 0.5, 1.0} and alphas & {0.5, 1.0}


def test_through_the_batch_api_tasks_are_put_off_until_the_provider_is_done(
    results: list[Any], postgres: embedded.Server
) -> None:
    run_id, state, _ = results[3]
    assert state == "success"
    with transaction(Warehouse(postgres.url)) as connection:
        batches = connection.execute(
            text("select step, state, outcome, questions from provider_batches where run_id = :run"), {"run": run_id}
        ).all()
        bill = connection.execute(
            text("select step, sum(calls), sum(failed), count(*) from batches where run_id = :run group by step"),
            {"run": run_id},
        ).all()
    assert {(row.state, row.outcome) for row in batches} == {("ended", "completed")}
    assert {row.step for row in batches} == {"snf", "reason"}
    for step, calls, failed, tasks in bill:
        submitted = [row.questions for row in batches if row.step == step]
        assert failed == 0 and len(submitted) <= tasks
        assert sum(submitted) <= calls <= sum(submitted) + 1  # one question told how to ask


def test_a_run_of_the_reference_alone_skips_what_no_method_needs(results: list[Any], postgres: embedded.Server) -> None:
    run_id, state, tasks = results[4]
    assert state == "success"
    states = {name.partition("[")[0]: how for name, (how, _) in tasks.items()}
    assert {states[name] for name in ("reverse", "ccg", "forward", "snf", "reason", "reliability", "train_llmser")} == {
        "skipped"
    }
    assert {states[name] for name in ("sequences", "train_base", "evaluate", "publish")} == {"success"}
    with transaction(Warehouse(postgres.url)) as connection:
        methods = set(connection.scalars(text("select method from metrics where run_id = :run"), {"run": run_id}))
        chosen = connection.scalar(text("select chosen from runs where run_id = :run"), {"run": run_id})
        asked = connection.scalar(text("select count(*) from picks where run_id = :run"), {"run": run_id})
    assert "base" in methods and "llmser" not in methods and chosen == "base" and asked == 0
