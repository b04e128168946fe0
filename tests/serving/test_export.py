from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from evaluated_world import HOSTILE, ITEMS, Trained

from llmser_tasks import __version__, recommenders
from llmser_tasks.cli import cli
from llmser_tasks.sequences.histories import Histories

README = Path(__file__).parents[2] / "README.md"


def export(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["export", "first", "model", *arguments])


@pytest.fixture
def folder(noted: str, tmp_path: Path) -> Path:
    result = export("-o", str(tmp_path / "model"))
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    return tmp_path / "model"


def test_the_readmes_example_recommends_what_we_do(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert sum(bool(line) for line in example.splitlines()) <= 10
    said = subprocess.run([sys.executable, "-c", example], cwd=folder.parent, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    history = Histories.of([0], [[1, 2, 3]])
    items, _ = recommenders.top_k(recommenders.load(folder, "cpu"), history, 5, history)
    assert said.stdout.split() == [f"i{item:03d}" for item in items[0]]


def test_the_folder_says_what_it_holds(folder: Path, trained: Trained) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "whoever may read one may read the other"
    text = (folder / "config.json").read_text()
    about = json.loads(text)
    assert text.isascii()
    assert about["item_ids"] == [f"i{item:03d}" for item in range(1, ITEMS + 1)]
    assert about["titles"][:3] == [HOSTILE, None, "Item 3"]
    assert (about["method"], about["backbone"], about["items"]) == ("llmser", "sasrec", ITEMS)
    assert (about["run_id"], about["dataset"], about["seed"]) == ("first", "tiny", 142)
    assert about["recommender"]["dimension"] == 8
    assert about["version"] == __version__
    known = trained.folder("llmser/42")
    assert (folder / "model.safetensors").read_bytes() == (known / "model.safetensors").read_bytes()


def test_the_base_can_be_chosen(noted: str, tmp_path: Path, trained: Trained) -> None:
    assert export("-o", str(tmp_path / "base"), "--method", "base").exit_code == 0
    known = recommenders.load(trained.folder("base/42"), "cpu")
    table = recommenders.load(tmp_path / "base", "cpu").table.detach().numpy()
    assert np.array_equal(table, known.table.detach().numpy())


def test_unless_a_method_is_named_the_model_is_the_one_that_recommends(noted: str, tmp_path: Path) -> None:
    result = export("-o", str(tmp_path / "model"))
    assert f"Wrote {tmp_path / 'model'}, a model of LLMSeR, as the settings say; the README" in result.stderr


def test_nothing_is_written_over_or_left_half_done(folder: Path, tmp_path: Path) -> None:
    before = (folder / "config.json").read_bytes()
    result = export("-o", str(folder))
    assert result.exit_code == 1
    assert result.stderr.endswith(f"Error: {folder} is there already; name another folder with -o, or remove it.\n")
    (tmp_path / "file").touch()
    result = export("-o", str(tmp_path / "file" / "model"))
    assert (result.exit_code, "Cannot write" in result.stderr) == (1, True)
    assert (folder / "config.json").read_bytes() == before
    assert not list(tmp_path.glob(".*model*"))


@pytest.mark.parametrize(
    "arguments", [("export", "first", "model", "--format", "csv"), ("export", "first", "metrics", "--method", "base")]
)
def test_options_that_do_not_fit_are_wrong_usage(noted: str, arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 2
