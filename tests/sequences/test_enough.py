"""What is known after the split to make a run pointless ends it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_dumps import Line, full, review, titles, write

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.methods.llmser import forward
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.enough import check_enough

CORE = {"user_core": 1, "item_core": 1}


def checked(workspace: Workspace, folder: Path, reviews: list[Line], **more: Any) -> None:
    dataset = write(folder, reviews, titles(9), **CORE)
    made = sequences(workspace, dataset, ingest(workspace, dataset))
    run = Run("r", RunConfig.model_validate({"dataset": dataset.model_dump()} | more), workspace, Warehouse(""))
    refs = {name: artefact.reference() for name, artefact in made.items()}
    check_enough(run, refs)
    if not forward.left_out(run.config):
        forward.check(run, refs)


def career(*items: int, user: str = "u") -> list[Line]:
    return [review(user, f"i{item}", day) for day, item in enumerate(items)]


def test_enough_is_enough(workspace: Workspace, tmp_path: Path) -> None:
    checked(workspace, tmp_path, full(5, 5))


def test_somebody_must_be_tested_on_something_new(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        checked(workspace, tmp_path, career(1, 2, 3, 4, 1) + career(2, 3, 5, 4, 4, user="v"))
    assert str(error.value) == (
        "No user of dataset test has a test item that is new to them (2 have one that they had before), so there is "
        "nothing to be tested on; lower user_core, item_core and min_length, or take a larger dump, or take another "
        "split."
    )


def test_somebody_must_be_watched_on_something_new(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a validation item that is new to them .* nothing to tell when to stop"):
        checked(workspace, tmp_path, career(1, 2, 3, 1, 4))


def test_there_must_be_a_next_item_to_learn(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"None of the 2 users of dataset test has two training items"):
        checked(workspace, tmp_path, career(1, 2, 3) + career(4, 5, 6, user="v"))


def test_and_one_more_where_the_last_is_masked(workspace: Workspace, tmp_path: Path) -> None:
    two = career(1, 2, 3, 4) + career(4, 5, 6, 7, user="v")
    with pytest.raises(InputError, match="has three training items: with the last one masked"):
        checked(workspace, tmp_path / "a", two)
    checked(workspace, tmp_path / "b", two, augmentation={"without": ["rcs"]})
    checked(workspace, tmp_path / "c", two, augmentation={"without": ["arv"]})
    checked(workspace, tmp_path / "d", two, reliability={"forward_on_full": True})
