"""Item tables that are more than ids, through all that a model meets; and a term beside the next item."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toys

from llmser_tasks.core.kinds import ITEM_TABLES

PROGRAM = Path(__file__).with_name("through_everything.py")
OURS = [name for name, table in ITEM_TABLES.items() if table.features]  # ids alone: everybody else's tests
PAIRS = [("ids-and-titles", "sasrec"), *(("two-views", backbone) for backbone in ("sasrec", "gru4rec", "bert4rec"))]
WIDE = ("two-views", "dual-view")  # twice the backbone's dimension, which reads them in their own way
PAIRS += [(table, backbone) for table in OURS for backbone in ("sasrec", "bert4rec")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def met(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict[str, Any]]:
    """Item table, backbone, and what the program found with them."""
    table, backbone = request.param
    folder = tmp_path_factory.mktemp("toys")
    environment = os.environ | {"PYTHONPATH": str(toys.house(folder / "house")), "LLMSER_THREADS": "1"}
    environment.pop("LLMSER_TRAINING_PROCESSES", None)
    (folder / "models").mkdir()
    command = [sys.executable, str(PROGRAM), table, backbone, str(folder / "models")]
    ran = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return table, backbone, json.loads(ran.stdout.splitlines()[-1])


def test_it_is_trained_saved_and_ranked_with(met: tuple[str, str, dict[str, Any]]) -> None:
    table, _, found = met
    scores = found["scores"]
    assert scores["first"] > 0.5 and scores["sampled"] > 0.3  # chance: 1 in 25, 1 in 13
    assert found["all"] > 0.5, "with a loss over the whole catalogue"
    assert scores["top"] and scores["features"]
    assert scores["width"] == (32 if table in WIDE else 16)


def test_a_batch_moves_the_rows_that_it_gathers_alone(met: tuple[str, str, dict[str, Any]]) -> None:
    table, _, found = met
    assert found["step"] == {"few": True, "moved": True, "tables": 3 if table == "two-views" else 1}


def test_it_resumes_with_the_same_bytes(met: tuple[str, str, dict[str, Any]]) -> None:
    assert met[2]["resumed"]


def test_rows_follow_their_items_into_another_catalogue_and_features_are_the_new_ones(
    met: tuple[str, str, dict[str, Any]],
) -> None:
    warm = met[2]["warm"]
    assert warm["finite"] and warm["carried"] and warm["same"] and warm["named"]
    assert ("item_table.adapter.weight" if met[0] in toys.TABLES else "item_table.") in warm["shape"]
    assert "of another shape than this training, as features of another width make them" in warm["shape"]


def test_an_exported_folder_needs_nothing_else(met: tuple[str, str, dict[str, Any]]) -> None:
    table, _, found = met
    assert found["exported"]["same"]
    assert found["exported"]["features"] == (found["exported"]["needs"] if table in WIDE else [])


def test_what_does_not_fit_is_said(met: tuple[str, str, dict[str, Any]]) -> None:
    table, _, found = met
    assert "given the feature colours, which neither" in found["unused"]
    (feature,) = found["exported"]["needs"]
    assert f"{table} needs a row of the feature {feature} for padding and for each of 30 items" in found["rows"]
    assert f"{table} needs the feature {feature}, which the training was not given" in found["untitled"]
    assert f"has item table {table} and this training ids" in found["other"]


def test_another_term_joins_in_and_two_processes_take_the_steps_of_one(met: tuple[str, str, dict[str, Any]]) -> None:
    preference = met[2]["preference"]
    assert preference["with"] > 0.65 > preference["without"]  # chance: one half; a quarter of the users weigh nothing
    alone, both = preference["logs"]
    assert len(alone) == len(both) == 8
    for (loss, ndcg), (other_loss, other_ndcg) in zip(alone, both, strict=True):
        assert loss == pytest.approx(other_loss, rel=1e-4) and ndcg == other_ndcg
    assert "preference needs the feature better" in preference["missing"]
