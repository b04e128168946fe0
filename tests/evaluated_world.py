"""A small evaluated run: 60 users on a ring of items, base and weighted models of two seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_world import DATASET, SMALL, World, make_world

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig, from_flat
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.recommenders.load import modules_of
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, write_targets

USERS, ITEMS, SEEDS, T = 60, 30, (42, 43), 3
HOSTILE = '<script>alert("x")</script>'


@dataclass(frozen=True)
class Trained:
    """Everything that evaluation reads."""

    world: World
    config: RunConfig
    inputs: dict[str, Any]
    reliability: Artefact

    @property
    def workspace(self) -> Workspace:
        return self.world.workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    generator = np.random.default_rng(0)
    walks = {
        user: ((generator.integers(ITEMS) + np.arange(generator.integers(1, 7))) % ITEMS + 1).tolist()
        for user in range(USERS)
    }
    titles: list[str | None] = [HOSTILE, None, *(f"Item {number}" for number in range(3, ITEMS + 1))]
    world = make_world(Workspace(tmp_path_factory.mktemp("evaluation")), walks, titles)
    config = from_flat({"dataset": DATASET, "seeds": SEEDS, "sampled_negatives": 5, "recommendations": 4})

    after = world.histories.last() % ITEMS + 1
    nothing = Histories.of(range(USERS), [[]] * USERS)
    between = Histories.of(range(USERS), after[:, None].tolist())
    tested = np.arange(USERS) != 5  # one user has no test item, as under a temporal split
    prior = [[(walk[0] - 3) % ITEMS + 1, (walk[0] - 2) % ITEMS + 1] if user % 7 else [] for user, walk in walks.items()]
    pseudo = Histories.of(range(USERS), prior)

    def targets(held_out: Targets) -> Callable[[Path], None]:
        return lambda folder: write_targets(folder / "targets.parquet", held_out)

    def write_pseudo(folder: Path) -> None:
        sources = pa.array([["strict"] * len(row) for row in prior], pa.list_(pa.string()))
        reasons = pa.array([None if row else "nothing usable" for row in prior], pa.string())
        pq.write_table(pseudo.to_arrow({"sources": sources, "reason": reasons}), folder / "pseudo.parquet")

    def write_reliability(folder: Path) -> None:
        omega = np.where(pseudo.lengths > 0, np.round(generator.random(USERS), 3), 0.0)
        named = [int(item) if row % 7 else None for row, item in enumerate(world.histories.last())]
        columns = {
            "user": pa.array(range(USERS), pa.int32()),
            "n": pa.array(world.histories.lengths, pa.int32()),
            "masked": pa.array(world.histories.last()),
            "named": pa.array(named, pa.int32()),
            "source": pa.array(["strict" if item else None for item in named], pa.string()),
            "omega": pa.array(omega),
            "alpha": pa.array(omega / 2),
            "reason": pa.array([None if item else "no pseudo items" for item in named], pa.string()),
        }
        pq.write_table(pa.table(columns), folder / "reliability.parquet")

    def train(seed: int) -> Callable[[Path], None]:
        watch = recommenders.Watch(world.histories, after, world.histories)
        return lambda folder: (
            recommenders.train(SMALL, [recommenders.WeightedTerm(world.histories)], ITEMS, seed, folder, watch=watch)
            and None
        )

    def made(step: str, write: Callable[[Path], None]) -> Artefact:
        return world.workspace.produce(
            step,
            DATASET,
            lambda folder: write(folder) or {},
            inputs={},
            config={},
            chosen=modules_of(SMALL),
        )

    test = Targets(np.flatnonzero(tested).astype(np.int32), between.select(tested), (after % ITEMS + 1)[tested])
    # the weighted model is just another one here: what evaluation does with it is what counts
    models = {f"{kind}/{seed}": made(f"{kind}/{seed}", train(seed + shift)) for kind, shift in KINDS for seed in SEEDS}
    inputs = {
        "training": world.training,
        "catalogue": world.catalogue,
        "validation": made("validation", targets(Targets(between.users, nothing, after))),
        "test": made("test", targets(test)),
        "pseudo": made("pseudo", write_pseudo),
        "models": models,
        "tail_threshold": T,
    }
    return Trained(world, config, inputs, made("reliability", write_reliability))


KINDS = (("base", 0), ("weighted", 100))
