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
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.model import CausalModel, initialise

DECLARED = Backbone(title="Mean of Items", place=90, dropout=0.25)


class MeanOfItems(CausalModel):
    def __init__(self, config, items):
        super().__init__(config, items)
        initialise(self, 0.02)

    def contextual(self, table: Tensor, laid: Tensor, layout: Layout) -> Tensor:
        so_far = table[laid].cumsum(0)
        before = so_far[layout.start] - table[laid[layout.start]]
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
from llmser_tasks.texts.encoder import Encoder
from tiny_dumps import FakeEncoder

Encoder.open = FakeEncoder.open
values, endpoint = json.loads(sys.argv[1]), Endpoint("double", sys.argv[2], "double", max_concurrency=4)
with address.database() as url:
    here = {"workspace": environment.workspace(), "database_url": url, "endpoint": endpoint}
    run = pipeline.run_all(values, **here, run_id="toys")
    with queries.read(url, "metrics", run) as found:
        models = sorted({dict(zip(found.columns, row))["method"] for row in found.rows})
    report = queries.report(url, run)
told = CliRunner().invoke(cli.cli, ["compare", run], catch_exceptions=False)
print(json.dumps({
    "models": models, "report": report, "compare": told.output,
    "choices": {p.name: p.schema["enum"] for p in parameters() if "enum" in p.schema},
    "dropout": pipeline.load(run, workspace=environment.workspace(), database_url=url).config.recommender.dropout_rate,
}))
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The package with the files of this test in it."""
    shutil.copytree(PACKAGE, tmp_path / "llmser_tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sql").symlink_to(PACKAGE.parent / "sql")
    for name, text in FILES.items():
        path = tmp_path / "llmser_tasks" / name
        assert not path.exists()
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
    assert told["models"] == [
        "base",
        "by-number",
        "cooccurrence",
        "llmser",
        "popularity",
        "title-neighbours",
        "transitions",
    ]
    assert told["dropout"] == 0.25
    assert told["choices"]["backbone"][-1] == "mean-of-items"
    assert told["choices"]["loss"][-1] == "hinge"
    assert told["choices"]["source"][-1] == "diary"
    for title in ("Mean of Items", "By Number"):
        assert title in told["report"]
    for title in ("Mean of Items", "by Number"):
        assert title in told["compare"]
    assert any("one pastime" in instructions for instructions in llm.instructions)
