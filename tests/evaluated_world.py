"""A small evaluated run: 60 users on a ring of items, models of base and LLMSeR of two seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_world import DATASET, NOWHERE, SMALL, World, make_world

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig, from_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Artefact, Workspace, write_json
from llmser_tasks.evaluation.evaluate import evaluate
from llmser_tasks.recommenders.load import modules_of
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, write_targets
from llmser_tasks.texts.vectors import ItemVectors

USERS, ITEMS, SEEDS, T = 60, 30, (42, 43), 3
HOSTILE = '<script>alert("x")</script>'


@dataclass(frozen=True)
class Trained:
    """Everything that evaluation and publishing read.

    Attributes:
        made: artefacts by name, trained models among them.
    """

    world: World
    config: RunConfig
    made: dict[str, Artefact]

    @property
    def workspace(self) -> Workspace:
        return self.world.workspace

    def folder(self, name: str) -> Path:
        return self.workspace.folder(self.made[name])

    def run(self, config: RunConfig | None = None, warehouse: Warehouse = NOWHERE, run_id: str = "r1") -> Run:
        return Run(run_id, config or self.config, self.workspace, warehouse)

    def refs(self, **other: Artefact | None) -> Made:
        """References to what is there; `other` takes its place, None leaves it out."""
        return {name: made.reference() for name, made in (self.made | other).items() if made is not None}

    def evaluated(self, config: RunConfig | None = None, **other: Artefact | None) -> Artefact:
        return evaluate(self.run(config), self.refs(**other))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    generator = np.random.default_rng(0)
    walks = {
        user: ((generator.integers(ITEMS) + np.arange(generator.integers(1, 7))) % ITEMS + 1).tolist()
        for user in range(USERS)
    }
    titles: list[str | None] = [HOSTILE, None, *(f"Item {number}" for number in range(3, ITEMS + 1))]
    world = make_world(Workspace(tmp_path_factory.mktemp("evaluation")), walks, titles, T)
    config = from_flat(
        {
            "dataset": DATASET,
            "methods": ["base", "llmser"],
            "seeds": SEEDS,
            "sampled_negatives": 5,
            "recommendations": 4,
            "publish": "llmser",
        }
    )

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

    def write_vectors(folder: Path) -> None:
        directions = np.random.default_rng(1).normal(size=(ITEMS + 1, 4)).astype(np.float32)
        titled = np.array([False, *(title is not None for title in titles)])
        vectors = directions / np.linalg.norm(directions, axis=1, keepdims=True) * titled[:, None]
        ItemVectors(vectors, titled).write(folder)

    def train(seed: int) -> Callable[[Path], dict[str, Any]]:
        watch = recommenders.Watch(world.histories, after, world.histories)
        terms = [recommenders.WeightedTerm(world.histories)]
        return lambda folder: asdict(recommenders.train(SMALL, terms, ITEMS, seed, folder, watch=watch))

    def made(step: str, write: Callable[[Path], dict[str, Any] | None]) -> Artefact:
        return world.workspace.produce(
            step,
            DATASET,
            lambda folder: write(folder) or {},
            inputs={},
            config={},
            chosen=modules_of(SMALL),
        )

    test = Targets(np.flatnonzero(tested).astype(np.int32), between.select(tested), (after % ITEMS + 1)[tested])
    # LLMSeR's model is just another one here: what evaluation does with it is what counts
    models = {
        f"{method}/{seed}": made(f"{method}/{seed}", train(seed + shift)) for method, shift in SHIFTS for seed in SEEDS
    }
    others = {
        "training": world.training,
        "catalogue": world.catalogue,
        "ingest": made("ingest", lambda folder: write_json(folder / "report.json", {})),
        "validation": made("validation", targets(Targets(between.users, nothing, after))),
        "test": made("test", targets(test)),
        "item-vectors": made("item-vectors", write_vectors),
        "pseudo": made("pseudo", write_pseudo),
        "reliability": made("reliability", write_reliability),
    }
    return Trained(world, config, others | models)


SHIFTS = (("base", 0), ("llmser", 100))
