"""A search inside a run: what it may not touch, what is made of what it found, and how people are told."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double, llm, llm_server
from rich.console import Console
from sqlalchemy import text
from tiny_dumps import SMALL, FakeEncoder, careers, write_dumps

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods import trained
from llmser_tasks.methods.searched.outcome import Outcome
from llmser_tasks.runs import pipeline
from llmser_tasks.services import results
from llmser_tasks.serving.export import export_model
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages import progress
from llmser_tasks.warehouse.pages import results as page
from llmser_tasks.warehouse.tables import runs
from llmser_tasks.warehouse.tables.artefacts import StoredRun, of_run

__all__ = ["llm", "llm_server"]

OF_USERS = ("pseudo_items", "reliability", "picks")


@pytest.fixture
def go(tmp_path: Path, warehouse: Warehouse, llm: Double, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)
    values = SMALL | {"dataset": "tiny", "gate": None, "methods": ["base", "llmser-mended"], "epochs": 4}
    values |= write_dumps(tmp_path / "dumps", careers())

    def run(run_id: str, **knobs: Any) -> str:
        where = {"workspace": Workspace(tmp_path / "artefacts"), "warehouse": warehouse}
        return pipeline.run_all(values | knobs, endpoint=llm.endpoint, run_id=run_id, **where)

    return run


def rows_of(warehouse: Warehouse, run_id: str) -> list[list[tuple[Any, ...]]]:
    """What a run has of its users, without the run's name."""
    with transaction(warehouse) as connection:
        found = [
            connection.execute(text(f"select * from {table} where run_id = :run order by 2, 3"), {"run": run_id})
            for table in OF_USERS
        ]
        return [[tuple(value for value in row if value != run_id) for row in of_table] for of_table in found]


def test_a_search_asks_nothing_leaves_the_runs_rows_alone_and_is_told_of_everywhere(
    go: Callable[..., str], tmp_path: Path, warehouse: Warehouse, llm: Double
) -> None:
    go("plain")
    calls = len(llm.asked)
    go("searching", search="4")
    assert len(llm.asked) == calls > 0
    assert rows_of(warehouse, "searching") == rows_of(warehouse, "plain")

    workspace = Workspace(tmp_path / "artefacts")
    made = of_run(warehouse, "searching")
    found = Outcome.read(workspace.folder(made["search"]))
    assert {"pseudo", "reliability"} <= {step for row in found.tried for step in row["remade"]}
    assert sum(row["epochs"] for row in found.tried) <= 4 * found.full

    with queries.read(warehouse, "table1", "searching") as read:
        names = {row[1] for row in read.rows}
    assert {"base", "llmser-mended", "searched", "searched+content"} <= names
    with queries.read(warehouse, "tried", "searching") as read:
        listed = [dict(zip(read.columns, row, strict=True)) for row in read.rows]
    assert [row["title"] for row in listed] == [row["title"] for row in found.tried]
    assert [row["place"] for row in listed if row["chosen"]] == [1]

    shown = page.results(warehouse, "searching")
    assert len(shown["tried"]) == len(found.tried)
    told = f"Searched on validation items: {len(found.tried)} of {found.listed} ways to train, in "
    assert (
        shown["told_of_search"].startswith(told)
        and f"The best: {listed[0]['title']} (N@10 ." in shown["told_of_search"]
    )
    assert (
        page.results(warehouse, "plain")["told_of_search"] is None and page.results(warehouse, "plain")["tried"] == []
    )
    html = queries.report(warehouse, "searching")
    assert "What the search tried" in html and told in html and html.count("others were better") >= 1
    assert "What the search tried" not in queries.report(warehouse, "plain")
    console = Console(file=io.StringIO(), width=400)
    results.show(warehouse, "searching", console)
    assert shown["told_of_search"] in console.file.getvalue()  # type: ignore[attr-defined]
    steps = {row["step"]: row for row in progress.run(warehouse, "searching")["steps"]}
    assert steps["search"]["title"] == "Search on validation items" and steps["search"]["state"] == "done"

    stored = StoredRun.of(warehouse, runs.load(warehouse, "searching"), workspace)
    export_model(stored, "searched+content", tmp_path / "model")
    assert (tmp_path / "model" / "content").is_dir()


def test_what_was_found_is_trained_and_shown_with_its_own_settings(
    go: Callable[..., str], tmp_path: Path, warehouse: Warehouse
) -> None:
    go("searching", search="4", tail_threshold=2)  # so that there are head users, for whom β counts
    workspace = Workspace(tmp_path / "artefacts")
    run = pipeline.load("searching", workspace=workspace, warehouse=warehouse)
    made = of_run(warehouse, "searching")
    found = Outcome.read(workspace.folder(made["search"]))
    before = rows_of(warehouse, "searching")
    row = {
        "place": 1, "method": "llmser-mended+text-start", "title": "", "epochs": 1, "ndcg": 0.1,
        "settings": {"pseudo_items": 2, "asked_items": 3, "beta": 1.0}, "remade": ["reliability", "pseudo"],
    }  # fmt: skip
    other = replace(found, tried=[row], chosen=1)

    def write(folder: Path) -> dict[str, Any]:
        other.write(folder)
        return {}

    chosen = run.workspace.produce("search", run.dataset, write, inputs={}, config={"for": "this test"})
    refs = {name: one.reference() for name, one in made.items()} | {"search": chosen.reference()}
    recipe = trained.Recipe.of(run, refs, "searched+content")
    assert recipe.method == "llmser-mended+text-start" and recipe.run.aside and not run.aside
    assert recipe.run.config.reliability.beta == 1.0
    own = trained.Recipe.of(run, refs, "llmser-mended").prior()
    assert int(own.lengths.max()) == 3 and int(recipe.prior().lengths.max()) == 2
    assert set(recipe.refs) == set(refs) and recipe.refs["rcs"] == refs["rcs"]
    model = trained.train(run, refs, "searched", 42)
    inputs = workspace.manifest(model)["inputs"]
    assert inputs["pseudo"] == recipe.refs["pseudo"]["content"] != refs["pseudo"]["content"]
    assert inputs["reliability"] == recipe.refs["reliability"]["content"] != refs["reliability"]["content"]
    assert rows_of(warehouse, "searching") == before
