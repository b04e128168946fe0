"""What the environment decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from llmser_tasks.core import environment
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import engine, transaction


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMSER_HOME", "LLMSER_ARTEFACTS", "LLMSER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_everything_lies_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.home() == tmp_path / ".llmser"
    monkeypatch.setenv("LLMSER_HOME", "elsewhere")
    assert environment.home() == tmp_path / "elsewhere"
    assert environment.workspace().root == tmp_path / "elsewhere" / "artefacts"
    monkeypatch.setenv("LLMSER_ARTEFACTS", "/large/disk")
    assert environment.workspace().root == Path("/large/disk")


def test_without_a_database_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    with pytest.raises(StorageError, match="start it with `llmser up`, or set LLMSER_DATABASE_URL"):
        address.warehouse()
    monkeypatch.setenv("LLMSER_DATABASE_URL", "postgresql://me@db/warehouse")
    assert address.warehouse() == Warehouse("postgresql://me@db/warehouse")


def test_a_named_database_is_migrated(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", empty_database_url)
    with address.database() as warehouse, transaction(warehouse) as connection:
        assert connection.scalar(text("select count(*) from runs")) == 0


def test_the_embedded_one_runs_for_the_length_of_the_block(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = open_folder / "settings"
    monkeypatch.setenv("LLMSER_HOME", str(home))
    with address.database() as warehouse:
        assert address.warehouse() == warehouse
        with transaction(warehouse) as connection:
            assert connection.scalar(text("select count(*) from runs")) == 0
        engine(warehouse).dispose()
    assert embedded.running(home) is None


def test_the_preset_released_is_the_released_codes_protocol() -> None:
    plain = environment.configuration({"dataset": "beauty"}).model_dump()
    made = environment.configuration({"dataset": "beauty", **environment.preset("released")}).model_dump()
    ours = {name: made["recommender"].pop(name) for name in ("backbone", "held_out_users", "calibration")}
    assert made["recommender"] == {
        "dimension": 64,
        "layers": 2,
        "heads": 1,
        "dropout": 0.5,
        "max_length": 200,
        "loss": "bce",
        "negatives": 1,
        "negatives_from": "uniform",
        "batch_size": 128,
        "learning_rate": 1e-3,
        "averaging": 0,
        "epochs": 200,
        "patience": 20,
    }
    protocol = {"methods": ("base", "llmser"), "seeds": (42, 43, 44), "sampled_negatives": 100, "recommendations": 20}
    assert made["evaluation"] == plain["evaluation"] | protocol
    assert made["dataset"] == plain["dataset"] | {
        "split": "leave-one-out",
        "ties": "file",
        "item_text": ("title",),
    }  # its file's filters stay
    assert made["augmentation"] == plain["augmentation"] | {"pool": 20}
    assert made["reliability"] == plain["reliability"] | {"reason_pool": 10}
    assert made["llm"] == plain["llm"]
    assert ours == {name: plain["recommender"][name] for name in ours}


def test_a_preset_stands_between_the_datasets_file_and_what_is_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.json").write_text('{"item_core": 9, "max_length": 30, "epochs": 7}')
    made = environment.configuration({"dataset": "mine", **environment.preset("released"), "epochs": 3})
    assert (made.dataset.item_core, made.recommender.max_length, made.recommender.epochs) == (9, 200, 3)


@pytest.mark.parametrize("variable", ["LLMSER_ARTEFACTS", "LLMSER_HOME"])
@pytest.mark.parametrize("url", ["s3://key:secret@bucket/prefix", "gs://bucket", "S3:/bucket", "abfs+x://a/b"])
def test_a_bucket_is_refused_where_a_folder_is_needed(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, url)
    with pytest.raises(
        InputError, match=rf"^{variable} is a URL \(.*:\), .* give a folder that all workers see\.$"
    ) as told:
        environment.workspace()
    assert "secret" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_url_is_refused_with_what_to_give_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_ARTEFACTS", "file:///large/disk")
    with pytest.raises(InputError, match="give its path alone"):
        environment.workspace()


def test_a_folder_with_a_colon_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_ARTEFACTS", "/large/disk:/x")
    assert environment.workspace().root == Path("/large/disk:/x")
