"""What is added to a method's scores counts wherever it recommends: in the run, by command, and from an export."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from evaluated_world import SEEDS, Trained
from noted_run import artefacts, changed, note_run

from llmser_tasks import recommenders
from llmser_tasks.cli import cli
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.evaluation.evaluate import known_items
from llmser_tasks.methods import adding
from llmser_tasks.methods.additions import content, near_texts
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.serving.export import added

METHOD = "base+content"
HISTORY = Histories.of([0], [[4, 5]])
CPU = torch.device("cpu")


@pytest.fixture
def settings(trained: Trained) -> dict[str, object]:
    return {"config": changed(trained, "evaluation", methods=("base", METHOD), publish=METHOD)}


@pytest.fixture
def fitted(trained: Trained, settings: dict, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artefact]:
    """The content score of both seeds, with a γ that is seen."""
    monkeypatch.setattr(content, "GRID", (3.0,))
    run = trained.run(settings["config"])
    refs = trained.refs(**{near_texts.STEP: near_texts.make(run, trained.refs())})
    return {f"{METHOD}/{seed}": adding.fit(run, refs, METHOD, seed) for seed in SEEDS}


@pytest.fixture
def run_with_it(
    noted: Warehouse, trained: Trained, settings: dict, fitted: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> str:
    note_run(noted, trained, "near", settings["config"], **fitted)
    return "near"


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result


def expected(trained: Trained, folder: Path, histories: Histories, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Top k of the base's first model with what the fitted folder adds."""
    model = recommenders.load(trained.folder("base/42"), "cpu")
    return recommenders.top_k(model, histories, k, histories, added=content.added(folder, histories, CPU))


def test_recommend_adds_it(run_with_it: str, trained: Trained, fitted: dict[str, Artefact]) -> None:
    def told(*arguments: str) -> tuple[list[str], list[float], str]:
        result = invoke("recommend", run_with_it, "--history", "i004,i005", "-k", "6", "--format", "csv", *arguments)
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        return [row["item_id"] for row in rows], [float(row["score"]) for row in rows], result.stderr

    items, scores = expected(trained, trained.workspace.folder(fitted[f"{METHOD}/42"]), HISTORY, 6)
    ids, said, line = told()
    assert ids == [f"i{item:03d}" for item in items[0]] and said == pytest.approx(scores[0].tolist())
    assert "Recommending by base + content score, as the settings say.\n" in line
    assert told("--method", "base")[0] != ids


def test_an_export_holds_all_that_it_takes(
    run_with_it: str, trained: Trained, fitted: dict[str, Artefact], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    invoke("export", run_with_it, "model", "-o", str(folder))
    assert json.loads((folder / "config.json").read_text())["addition"] == "content"
    assert sorted(path.name for path in (folder / "content").iterdir()) == [content.FILE, "near_texts.safetensors"]
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert modes == {(folder / "config.json").stat().st_mode}, "whoever may read a part may read the others"
    model = recommenders.load(folder, "cpu")
    found = recommenders.top_k(model, HISTORY, 6, HISTORY, added=added(folder, HISTORY, CPU))
    for ours, theirs in zip(
        found, expected(trained, trained.workspace.folder(fitted[f"{METHOD}/42"]), HISTORY, 6), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_an_export_of_a_model_alone_adds_nothing(run_with_it: str, tmp_path: Path) -> None:
    invoke("export", run_with_it, "model", "--method", "base", "-o", str(tmp_path / "model"))
    assert added(tmp_path / "model", HISTORY, CPU) is None
    assert "addition" not in json.loads((tmp_path / "model" / "config.json").read_text())


@pytest.mark.parametrize(("said", "sentence"), [('{"addition": "magic"}', "adds 'magic' to its"), ("{", "no usable")])
def test_an_export_that_cannot_be_used_is_one_sentence(tmp_path: Path, said: str, sentence: str) -> None:
    (tmp_path / "config.json").write_text(said)
    with pytest.raises(StorageError, match=sentence):
        added(tmp_path, HISTORY, CPU)


def test_a_runs_recommendations_have_it(trained: Trained, settings: dict, fitted: dict[str, Artefact]) -> None:
    evaluation = trained.workspace.folder(artefacts(trained, settings["config"], **fitted)["evaluation"])
    validation, test = (read_targets(trained.folder(part) / "targets.parquet") for part in ("validation", "test"))
    known = known_items(trained.world.histories, validation, test)
    items, _ = expected(trained, trained.workspace.folder(fitted[f"{METHOD}/42"]), known, 4)
    recommended = pq.read_table(evaluation / "recommendations.parquet")["items"].to_pylist()
    assert recommended == [[item for item in row if item] for row in items.tolist()]


def test_what_was_chosen_on_validation_items_is_the_methods_figure(
    trained: Trained, fitted: dict[str, Artefact]
) -> None:
    said = trained.workspace.summary(fitted[f"{METHOD}/42"])
    assert said["gamma"] == {"tail": 3, "head": 3} and said["grid"] == [3]
    assert sum(group["users"] for group in said["groups"].values()) > 0
    assert 0 <= said["ndcg"] <= 1
