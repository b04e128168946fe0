"""ASReP's training: the extended sequence in the place of a short one, begun with the reverse model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrep_world import ITEMS, looking_back, made, walking
from tiny_world import DATASET, World

from llmser_tasks import recommenders
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods import trained
from llmser_tasks.methods.asrep import method, prior_items
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, write_targets


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return walking(workspace)


def prepared(world: World, **settings: object) -> tuple[Run, Made]:
    run, refs = looking_back(world, **settings)

    def validation(folder: Path) -> dict[str, Any]:
        users = world.histories.users
        last = (world.histories.last() % ITEMS + 1).astype(np.int32)
        write_targets(folder / "targets.parquet", Targets(users, Histories.of(users, [[] for _ in users]), last))
        return {}

    watched = world.workspace.produce("validation", DATASET, validation, inputs={}, config={})
    return run, refs | {
        "prior-items": prior_items.make(run, refs).reference(),
        "validation": watched.reference(),
    }


def test_short_histories_are_replaced_and_long_ones_stay(world: World) -> None:
    run, refs = prepared(world)
    prior, taught = made(run, refs), method.lessons(run, refs, world.histories)
    (term,) = taught.terms
    assert term.sequences.users.tolist() == world.histories.users.tolist()
    for row, history in enumerate(world.histories):
        assert term.sequences[row].tolist() == [*prior[row], *history]
    assert term.weights is None, "every user counts as much"
    assert term.context is None, "pseudo-prior items are asked for, too"
    assert method.prior(run, refs).items.tolist() == prior.items.tolist()


@pytest.mark.parametrize("reverse_start", [True, False])
def test_training_begins_with_the_reverse_model_unless_it_shall_not(
    world: World, reverse_start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, refs = prepared(world, asrep_reverse_start=reverse_start)
    begun: list[Path | None] = []
    genuine = recommenders.train

    def spy(*arguments: Any, start_from: Path | None = None, **rest: Any) -> recommenders.TrainingSummary:
        begun.append(start_from)
        return genuine(*arguments, start_from=start_from, **rest)

    monkeypatch.setattr(recommenders, "train", spy)
    model = trained.train(run, refs, "asrep", 42)
    assert begun == [run.folder(refs, "reverse") if reverse_start else None]
    inputs = run.workspace.manifest(model)["inputs"]
    assert inputs.keys() == {"training", "validation", "reverse", "prior-items"}
    assert trained.train(run, refs, "asrep", 42).unchanged
