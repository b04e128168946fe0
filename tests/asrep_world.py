"""A small world whose reverse model is trained, for ASReP."""

from __future__ import annotations

from typing import Any

from tiny_world import DATASET, NOWHERE, World, make_world, walks

from llmser_tasks.core import config
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods.asrep import prior_items
from llmser_tasks.methods.llmser import reverse
from llmser_tasks.sequences.histories import Histories

ITEMS = 12
VALUES: dict[str, Any] = {
    "dataset": DATASET,
    "dimension": 8,
    "max_length": 8,
    "batch_size": 16,
    "negatives": 8,
    "epochs": 2,
    "patience": 2,
    "asrep_items": 3,
    "asrep_length": 6,
}


def walking(workspace: Workspace) -> World:
    """Forty users with 1 to 6 items."""
    return make_world(workspace, walks(40, ITEMS), [f"thing {n}" for n in range(ITEMS)])


def looking_back(world: World, **settings: object) -> tuple[Run, Made]:
    """A run, and what it has once the reverse model is trained."""
    run = Run("one", config.from_flat(VALUES | settings), world.workspace, NOWHERE)
    refs = {"training": world.training.reference(), "catalogue": world.catalogue.reference()}
    return run, refs | {"reverse": reverse.make(run, refs).reference()}


def made(run: Run, refs: Made) -> Histories:
    artefact = prior_items.make(run, refs)
    items = Histories.read(run.workspace.folder(artefact) / prior_items.FILE)
    assert run.workspace.manifest(artefact)["inputs"].keys() == {"training", "reverse"}
    assert run.workspace.summary(artefact)["items"] == len(items.items)
    return items
