"""What is a kind is one file: files that only this test has become choices, run, and are called by their titles."""

from __future__ import annotations

import json
import os
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
FILES = {
    "recommenders/backbones/mean_of_items.py": '''
"""The mean of the items so far."""

from torch import Tensor

from llmser_tasks.core.kinds import Backbone
from llmser_tasks.recommenders.items.table import Gathered
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.model import CausalModel, initialise

DECLARED = Backbone(title="Mean of Items", place=90, dropout=0.25)


class MeanOfItems(CausalModel):
    def __init__(self, config, item_table):
        super().__init__(config, item_table)
        initialise(self, 0.02)

    def contextual(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        so_far = gathered.vectors[laid].cumsum(0)
        before = so_far[layout.start] - gathered.vectors[laid[layout.start]]
        return (so_far - before[layout.owner]) / (layout.column + 1)[:, None]


BACKBONE = MeanOfItems
''',
    "recommenders/losses/hinge.py": '''
"""max(0, 1 - s⁺ + s⁻) over negatives of one's own."""

from llmser_tasks.core.kinds import Loss
from llmser_tasks.recommenders import negatives as drawn
from llmser_tasks.recommenders.kernels.own_scores import own_scores

DECLARED = Loss(title="hinge", place=90, negatives=2, shared=False)

make_sampler = drawn.own


def make_loss(config, items):
    def hinge(states, positives, negatives, table):
        positive = own_scores(states, positives[:, None], table)
        return (1 - positive + own_scores(states, negatives.items, table)).clamp(min=0).sum(1)

    return hinge
''',
    "ingest/formats/diary.py": '''
"""Diaries: who, what, and on which day."""

from llmser_tasks.ingest.source import Source, json_only
from llmser_tasks.core.kinds import DumpFormat

DECLARED = DumpFormat(title="Diaries", place=90, noun="pastime")

SOURCE = Source(
    name="diary", user="who", item="what", time="day", rating="liked", title="called",
    milliseconds=lambda day: int(day) * 86_400_000, lenient=json_only,
)
''',
    "methods/by_number.py": '''
"""The higher an item's number, the better."""

from llmser_tasks.core.kinds import Method
from llmser_tasks.methods.counting import Counted, Test

DECLARED = Method(title="by Number", place=90, colour="third")


def rank(test: Test, progress=None) -> Counted:
    full = test.items + 1 - test.targets
    return Counted(full, {seed: 1 + (drawn >= test.targets[:, None]).sum(1) for seed, drawn in test.negatives.items()})
''',
    "methods/fond/__init__.py": "",
    "methods/fond/taste.py": '''
"""Which of their own items somebody liked best."""

from llmser_tasks.asking.questions import Inquiry, shuffle_seed
from llmser_tasks.core.kinds import QuestionStep
from llmser_tasks.llm.prompts import build_question

DECLARED = QuestionStep(title="Ask what was liked", place=90, short="Taste", asks="what was liked best")

NEEDS = ()


def left_out(config):
    return None


def may_be_asked(histories, titled):
    return titled[histories.last()]


def inquire(user, history, given, catalogue, config):
    own = history[catalogue.titled[history]]
    if not len(own):
        return Inquiry(user, None, reason="nothing has a title")
    titles = catalogue.titles_of(own)
    question = build_question(
        step="taste", prompt_version="1", instructions="Name what this person liked best.", history=titles,
        candidates=titles, picks=1, seed=shuffle_seed(config.seed, "taste", own, own),
    )
    return Inquiry(user, question, own.tolist())
''',
    "methods/fond/liked.py": '''
"""What everybody liked best, as a sequence of one."""

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core.kinds import Step
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Note what was liked", place=91, needs=("taste",))


def left_out(config):
    return None


def make(run, refs, progress=None):
    picks = Picks.open(run, refs, "taste")

    def write(folder):
        users = Histories.open(run, refs).users
        Histories.of(users, [picks.of(user)[0] for user in users.tolist()]).write(folder / "liked.parquet")
        return {"users": len(users)}

    return run.workspace.produce("liked", run.dataset, write, inputs={"picks": picks.content()}, config={})
''',
    "methods/fond/method.py": '''
"""Reminds the model of what somebody liked best."""

from llmser_tasks.core.kinds import Method
from llmser_tasks.methods.trained import Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="Fond Memories", place=91, colour="third", trained=True, needs=("liked",))


def settings(config):
    return {}


def lessons(run, refs, histories):
    return Lessons([WeightedTerm(histories)])


def prior(run, refs):
    return Histories.read(run.folder(refs, "liked") / "liked.parquet")
''',
}
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
with address.database() as url:
    here = {"workspace": environment.workspace(), "database_url": url, "endpoint": endpoint}
    run = pipeline.run_all(values, **here, run_id="toys")
    with queries.read(url, "metrics", run) as found:
        methods = sorted({dict(zip(found.columns, row))["method"] for row in found.rows})
    report = queries.report(url, run)
    with queries.read(url, "steps", run) as found:
        steps = [row[0] for row in found.rows]
    page = {
        "results": results.results(url, run)["comparisons"], "steps": progress.run(url, run)["steps"],
        "drift": drift.drift(url, "toys"), "datasets": overview.datasets(url),
    }
told = CliRunner().invoke(cli.cli, ["compare", run], catch_exceptions=False)
recommended = CliRunner().invoke(cli.cli, ["recommend", run, "--history", "A001,A002"], catch_exceptions=False)
print(json.dumps({
    "methods": methods, "report": report, "compare": told.output, "steps": steps, "page": page,
    "recommended": recommended.output,
    "choices": {p.name: p.schema["enum"] for p in parameters() if "enum" in p.schema},
    "dropout": pipeline.load(run, workspace=environment.workspace(), database_url=url).config.recommender.dropout_rate,
}, default=str))
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The package with the files of this test in it."""
    shutil.copytree(PACKAGE, tmp_path / "llmser_tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sql").symlink_to(PACKAGE.parent / "sql")
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
    titles = [{"what": f"A{item:03d}", "called": f"Thing number {item}"} for item in range(1, 25)]
    items.write_text("\n".join(map(json.dumps, titles)), encoding="utf-8")
    return {"reviews": str(reviews), "items": str(items)}


def test_one_file_is_enough(house: Path, database_url: str, llm: Double) -> None:
    chosen = {"dataset": "toys", "source": "diary", "backbone": "mean-of-items", "loss": "hinge", "negatives": None}
    chosen |= {"methods": ["base", "llmser", "fond"], "publish": "fond"}
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
    assert {"taste", "liked", "fond"} <= set(told["steps"])
    assert {row["method"] for row in told["page"]["results"]} == {"llmser", "fond"}
    assert {"Ask what was liked", "Note what was liked", "Train Fond Memories"} <= {
        step["title"] for step in told["page"]["steps"]
    }
    assert "Fond Memories" in json.dumps(told["page"]["datasets"]) or "fond" in json.dumps(told["page"]["datasets"])
    assert "fond" in json.dumps(told["page"]["drift"])
    assert "Fond Memories" in told["recommended"]
    assert told["dropout"] == 0.25
    assert told["choices"]["backbone"][-1] == "mean-of-items"
    assert told["choices"]["loss"][-1] == "hinge"
    assert told["choices"]["source"][-1] == "diary"
    for title in ("Mean of Items", "By Number", "Fond Memories"):
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
    assert set(upstream["train_fond"]) == {"liked", "sequences", "start"} and "train_fond" in upstream["evaluate"]
