"""A small world with neighbours of users and of items, before the trainings of methods that learn from these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrep_world import ITEMS, VALUES, walking
from tiny_world import DATASET, NOWHERE, World

from llmser_tasks.core import config
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, write_targets
from llmser_tasks.texts.neighbours import Neighbours
from llmser_tasks.texts.vectors import ItemVectors

LOOKED_FOR = 4  # neighbours


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return walking(workspace)


def prepared(world: World, **settings: object) -> tuple[Run, Made]:
    """A run, and what it has before its trainings."""
    random = np.random.default_rng(1)
    users, count = world.histories.users, len(world.histories)

    def validation(folder: Path) -> dict[str, Any]:
        last = (world.histories.last() % ITEMS + 1).astype(np.int32)
        write_targets(folder / "targets.parquet", Targets(users, Histories.of(users, [[] for _ in users]), last))
        return {}

    def vectors(folder: Path) -> dict[str, Any]:
        unit = random.normal(size=(ITEMS + 1, 6)).astype(np.float32)
        unit[0] = 0
        ItemVectors(unit, unit.any(1)).write(folder)
        return {}

    def of_users(folder: Path) -> dict[str, Any]:
        rows = random.integers(-1, count, (count, LOOKED_FOR)).astype(np.int32)
        Neighbours(rows, random.random(rows.shape, np.float32)).write(folder)
        return {}

    def of_items(folder: Path) -> dict[str, Any]:
        rows = random.integers(1, ITEMS + 1, (ITEMS + 1, LOOKED_FOR)).astype(np.int32)
        rows[0] = rows[3] = -1  # padding, and an item without a text
        Neighbours(rows, random.random(rows.shape, np.float32)).write(folder)
        return {}

    steps = {
        "validation": validation,
        "item-vectors": vectors,
        "user-neighbours": of_users,
        "item-neighbours": of_items,
    }
    made = {
        name: world.workspace.produce(name, DATASET, write, inputs={}, config={}).reference()
        for name, write in steps.items()
    }
    run = Run("one", config.from_flat(VALUES | {"esr_neighbours": LOOKED_FOR - 1} | settings), world.workspace, NOWHERE)
    return run, made | {"training": world.training.reference(), "catalogue": world.catalogue.reference()}
