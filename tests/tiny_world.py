"""Training histories and a catalogue as artefacts, small enough to reason about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.core.config import Recommender, from_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories

DATASET = "tiny"
SMALL = Recommender(
    dimension=8, max_length=8, dropout=0.1, batch_size=16, negatives=8, epochs=2, patience=2, learning_rate=1e-2
)

NOWHERE = Warehouse("")


@dataclass(frozen=True)
class World:
    workspace: Workspace
    histories: Histories
    training: Artefact
    catalogue: Artefact
    items: int

    @property
    def known(self) -> Catalogue:
        return Catalogue.read(self.workspace.folder(self.catalogue))

    def run(self, warehouse: Warehouse = NOWHERE, run_id: str = "r1", **settings: Any) -> Run:
        """A run of this world with small models."""
        values = {"dataset": DATASET} | SMALL.model_dump(exclude_unset=True) | settings
        return Run(run_id, from_flat(values), self.workspace, warehouse)

    def refs(self, **made: Artefact | None) -> Made:
        """References to the world, and to what else was made."""
        every = {"training": self.training, "catalogue": self.catalogue} | made
        return {name: artefact.reference() for name, artefact in every.items() if artefact is not None}


def make_world(
    workspace: Workspace,
    histories: Mapping[int, Sequence[int]],
    titles: Sequence[str | None],
    threshold: int = 2,
    texts: Sequence[str | None] | None = None,
) -> World:
    """User ids are u000, u001, …; item i has the id i001, …, `titles[i - 1]` and, if given, `texts[i - 1]`."""
    made = Histories.of(list(histories), list(histories.values()))
    users = max(histories) + 1

    def training(folder: Path) -> dict[str, Any]:
        made.write(folder / "histories.parquet")
        return {"users": len(made), "tail_threshold": threshold, "lengths": {"max": int(made.lengths.max())}}

    def catalogue(folder: Path) -> dict[str, Any]:
        numbers = range(1, len(titles) + 1)
        items = {"item": pa.array(numbers, pa.int32()), "item_id": [f"i{n:03d}" for n in numbers]}
        items |= {"title": pa.array(titles, pa.string())}
        items |= {} if texts is None else {"text": pa.array(texts, pa.string())}
        pq.write_table(pa.table(items), folder / "items.parquet")
        people = {"user": pa.array(range(users), pa.int32()), "user_id": [f"u{n:03d}" for n in range(users)]}
        pq.write_table(pa.table(people), folder / "users.parquet")
        return {}

    return World(
        workspace,
        made,
        workspace.produce("training", DATASET, training, inputs={}, config={"h": str(histories), "t": threshold}),
        workspace.produce(
            "catalogue", DATASET, catalogue, inputs={}, config={"t": list(titles), "x": texts and list(texts)}
        ),
        len(titles),
    )


def make_lists(workspace: Workspace, step: str, file: str, lists: Mapping[int, Sequence[int]]) -> Artefact:
    """An artefact of one list of items a user: pools, pseudo items."""

    def write(folder: Path) -> dict[str, Any]:
        made = Histories.of(list(lists), list(lists.values()))
        sources = pa.array([["strict"] * len(row) for row in made], pa.list_(pa.string()))
        pq.write_table(made.to_arrow({"sources": sources}), folder / file)
        return {}

    return workspace.produce(step, DATASET, write, inputs={}, config={"lists": str(lists)})


def walks(users: int, items: int, seed: int = 0) -> dict[int, list[int]]:
    """Users who walk along the ring 1 … items; 1 to 6 distinct items each, ids with gaps."""
    random = np.random.default_rng(seed)
    return {
        3 * user: [int((start + step) % items + 1) for step in range(int(length))]
        for user, (start, length) in enumerate(
            zip(random.integers(0, items, users), random.integers(1, 7, users), strict=True)
        )
    }


def read(workspace: Workspace, artefact: Artefact, file: str) -> pa.Table:
    return pq.read_table(workspace.folder(artefact) / file)
