"""The whole pipeline where the locale's encoding is another, or knows ASCII alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.tables import runs

TINY = [
    "--dataset", "sample", "--user-core", "1", "--item-core", "1", "--dimension", "8", "--max-length", "8",
    "--negatives", "8", "--epochs", "1", "--pool", "6", "--pseudo-items", "3", "--sampled-negatives", "5",
    "--without", "snf,arv",
]  # fmt: skip
NOUN = "Straßencafé 漢"


@pytest.fixture(scope="module", params=["C", "de_DE.ISO-8859-1", "zh_CN.GBK"])
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a shell in this locale, without Python's own switches to UTF-8."""
    name = str(request.param)
    variables = {"LC_ALL": name, "LANG": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if name != "C":
        folder = tmp_path_factory.mktemp("locales")
        language, charmap = name.split(".")
        if shutil.which("localedef") is None:
            pytest.skip("localedef is not installed, which makes the locale")
        made = subprocess.run(
            ["localedef", "-i", language, "-f", charmap, str(folder / name)], capture_output=True, check=False
        )
        if not (folder / name).is_dir():
            pytest.skip(f"localedef cannot make {name} here: {made.stderr.decode(errors='replace')[:200]}")
        variables["LOCPATH"] = str(folder)
    return {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))} | variables


def test_the_locale_is_what_it_says(foreign: dict[str, str]) -> None:
    """Otherwise the tests below would try nothing."""
    program = "import locale; print(locale.getpreferredencoding(False))"
    said = subprocess.run([sys.executable, "-c", program], env=foreign, capture_output=True, check=True)
    assert said.stdout.decode("ascii").strip().lower() not in {"utf-8", "utf8"}


def test_a_whole_run(foreign: dict[str, str], tmp_path: Path, warehouse: Warehouse) -> None:
    variables = foreign | {
        "LLMSER_HOME": str(tmp_path / "home"), "LLMSER_DATABASE_URL": warehouse.url, "LLMSER_THREADS": "1",
        "LLMSER_RANKER_URL": "http://127.0.0.1:9/v1",  # nobody is asked
    }  # fmt: skip

    def llmser(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "llmser_tasks.cli", *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, check=False, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        return done

    (tmp_path / "home" / "datasets").mkdir(parents=True)
    dataset = {"noun": NOUN, "source": "amazon-2018"}
    (tmp_path / "home" / "datasets" / "sample.json").write_text(json.dumps(dataset, ensure_ascii=False), "utf-8")
    sample = tmp_path / "sample"
    llmser("sample", "--users", "60", "--items", "30", "--source", "amazon-2018", "-o", str(sample))
    dumps = ["--reviews", str(next(sample.glob("*_5.json*"), None) or next(sample.glob("[!m]*.json*")))]
    dumps += ["--items", str(next(sample.glob("meta*")))]
    llmser("run", "--run-id", "r", *TINY, *dumps)
    row = runs.load(warehouse, "r")
    assert (row.state, row.config["noun"]) == ("succeeded", NOUN)
    llmser("doctor", "--help")
    assert "SASRec" in llmser("export", "r", "report").stdout.decode("utf-8")
    assert llmser("show", "r", "recommendations").stdout.decode("utf-8").count("\n") > 60
