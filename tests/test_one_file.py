"""What is a kind is one file: CONTRIBUTING's examples become choices, run, and are called by their titles."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint_double import Double, llm, llm_server
from tiny_dumps import SMALL, careers

from llmser_tasks.core import reachable

__all__ = ["llm", "llm_server"]

PACKAGE = Path(reachable.__file__).parents[1]
EXAMPLE = re.compile(r"```python\n# llmser_tasks/(\S+)\n(.*?)```", re.DOTALL)
FILES = dict(EXAMPLE.findall((PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")))
FILES["methods/fond/__init__.py"] = ""
WITH_PARTS = "base+ids-and-titles+even-numbers"
SCRIPT = """
import json, os, sys
from click.testing import CliRunner
from llmser_tasks import cli
from llmser_tasks.core import environment
from llmser_tasks.warehouse import address
from llmser_tasks.runs import pipeline
from llmser_tasks.core.config import parameters
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.pages import drift, overview, progress, results
from llmser_tasks.texts.encoder import Encoder
from tiny_dumps import FakeEncoder

Encoder.open = FakeEncoder.open
values, endpoint = json.loads(sys.argv[1]), Endpoint("double", sys.argv[2], "double", max_concurrency=4)
with address.database() as warehouse:
    here = {"workspace": environment.workspace(), "warehouse": warehouse, "endpoint": endpoint}
    run = pipeline.run_all(values, **here, run_id="toys")
    with queries.read(warehouse, "metrics", run) as found:
        methods = sorted({dict(zip(found.columns, row))["method"] for row in found.rows})
    report = queries.report(warehouse, run)
    with queries.read(warehouse, "steps", run) as found:
        steps = [row[0] for row in found.rows]
    page = {
        "results": results.results(warehouse, run)["comparisons"], "steps": progress.run(warehouse, run)["steps"],
        "drift": drift.drift(warehouse, "toys"), "datasets": overview.datasets(warehouse),
    }
told = CliRunner().invoke(cli.cli, ["compare", run], catch_exceptions=False)
recommended = CliRunner().invoke(cli.cli, ["recommend", run, "--history", "A001,A002"], catch_exceptions=False)
made = pipeline.load(run, workspace=environment.workspace(), warehouse=warehouse)
print(json.dumps({
    "methods": methods, "report": report, "compare": told.output, "steps": steps, "page": page,
    "recommended": recommended.output,
    "choices": {p.name: p.schema["enum"] for p in parameters() if "enum" in p.schema},
    "dropout": made.config.recommender.dropout_rate,
}, default=str))
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The package with the files of this test in it."""
    shutil.copytree(PACKAGE, tmp_path / "llmser_tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sql").symlink_to(PACKAGE.parent / "sql")
    assert len(FILES) == 10, "an example is missing in CONTRIBUTING"
    for name, text in FILES.items():
        path = tmp_path / "llmser_tasks" / name
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def write_diaries(folder: Path) -> dict[str, str]:
    people, reviews, items = careers(), folder / "diaries.json", folder / "pastimes.json"
    lines = [
        {"who": user, "what": f"A{item:03d}", "day": day}
        for user, chosen in people.items()
        for day, item in enumerate(chosen, start=100 - len(chosen))
    ]
    reviews.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    titles = [{"what": f"A{item:03d}", "called": f"Thing number {item}", "where": "outdoors"} for item in range(1, 25)]
    items.write_text("\n".join(map(json.dumps, titles)), encoding="utf-8")
    return {"reviews": str(reviews), "items": str(items)}


def test_one_file_is_enough(house: Path, database_url: str, llm: Double) -> None:
    chosen = {"dataset": "toys", "source": "diary", "backbone": "mean-of-items", "loss": "hinge", "negatives": None}
    chosen |= {"methods": ["base", "llmser", "fond", WITH_PARTS], "publish": "fond"}
    values = SMALL | chosen | write_diaries(house)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(house), str(Path(__file__).parent)]),
        "LLMSER_HOME": str(house / "home"),
        "LLMSER_DATABASE_URL": database_url,
        "LLMSER_THREADS": "1",
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps(values), llm.endpoint.url]
    ran = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, cwd=house)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert set(told["methods"]) >= {"base", "by-number", "cooccurrence", "fond", "llmser", "popularity"}
    assert {"taste", "liked", "fond", "base+ids-and-titles", WITH_PARTS} <= set(told["steps"])
    assert {row["method"] for row in told["page"]["results"]} == {"llmser", "fond", WITH_PARTS}
    assert WITH_PARTS in told["methods"] and "base+ids-and-titles" not in told["methods"]
    assert {
        "Ask what was liked",
        "Note what was liked",
        "Train Fond Memories",
        "Fit base + ids and titles + Even Numbers",
    } <= {step["title"] for step in told["page"]["steps"]}
    assert "Fond Memories" in json.dumps(told["page"]["datasets"]) or "fond" in json.dumps(told["page"]["datasets"])
    assert "fond" in json.dumps(told["page"]["drift"])
    assert "Fond Memories" in told["recommended"]
    assert told["dropout"] == 0.25
    assert told["choices"]["backbone"][-1] == "mean-of-items"
    assert told["choices"]["loss"][-1] == "hinge"
    assert told["choices"]["source"][-1] == "diary"
    for title in ("Mean of Items", "By Number", "Fond Memories", "Base + ids and titles + Even Numbers"):
        assert title in told["report"]
    for title in ("Mean of Items", "by Number"):
        assert title in told["compare"]
    assert any("one pastime" in instructions for instructions in llm.instructions)


TASKS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

dag = DagBag(sys.argv[1]).dags["llmser"]
print(json.dumps({task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}))
"""


def test_the_dag_has_its_tasks(house: Path) -> None:
    dags = PACKAGE.parent / "dags"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(house), str(dags)]), "LLMSER_HOME": str(house)}
    ran = subprocess.run(
        [sys.executable, "-c", TASKS, str(dags)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=house,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    upstream = json.loads(ran.stdout.splitlines()[-1])
    assert upstream["liked"] == ["sequences", "taste"] and "plan_taste" in upstream["taste"]
    assert set(upstream["train_fond"]) == {"liked", "item-vectors", "near-texts", "sequences", "plan_train_fond"}
    assert upstream["plan_train_fond"] == ["start"] and "train_fond" in upstream["evaluate"]
