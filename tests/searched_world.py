"""A small world in which a model that starts from texts learns sooner: the texts of items that follow each other are
alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_world import DATASET, NOWHERE, World, make_world, walks

from llmser_tasks.core import config
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, write_targets
from llmser_tasks.texts.vectors import ItemVectors

ITEMS = 30
VALUES: dict[str, Any] = {
    "dataset": DATASET,
    "dimension": 16,
    "max_length": 8,
    "dropout": 0.1,
    "batch_size": 16,
    "negatives": 8,
    "learning_rate": 1e-2,
    "epochs": 9,
    "patience": 9,
    "search": "6",
}


def ring(workspace: Workspace) -> World:
    """Sixty users who walk along a ring of items."""
    return make_world(workspace, walks(60, ITEMS), [f"thing {n}" for n in range(ITEMS)])


def prepared(world: World, warehouse: Any = NOWHERE, **settings: object) -> tuple[Run, Made]:
    """A run, and what it has before its search."""
    users = world.histories.users

    def validation(folder: Path) -> dict[str, Any]:
        after = (world.histories.last() % ITEMS + 1).astype(np.int32)
        write_targets(folder / "targets.parquet", Targets(users, Histories.of(users, [[] for _ in users]), after))
        return {}

    def vectors(folder: Path) -> dict[str, Any]:
        angle = 2 * np.pi * np.arange(ITEMS) / ITEMS
        rows = np.stack([wave(turns * angle) for turns in (1, 2, 3, 4) for wave in (np.sin, np.cos)], axis=1)
        unit = np.concatenate([np.zeros((1, 8)), rows / np.linalg.norm(rows, axis=1, keepdims=True)])
        ItemVectors(unit.astype(np.float32), unit.any(1)).write(folder)
        return {}

    made = {
        name: world.workspace.produce(name, DATASET, write, inputs={}, config={}).reference()
        for name, write in (("validation", validation), ("item-vectors", vectors))
    }
    run = Run("one", config.from_flat(VALUES | {"methods": ["base"]} | settings), world.workspace, warehouse)
    return run, made | {"training": world.training.reference(), "catalogue": world.catalogue.reference()}
