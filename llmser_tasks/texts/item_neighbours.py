"""The items whose texts are closest to each item's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.texts.neighbours import Neighbours, neighbours
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = Step(title="Find neighbours of items", place=2, needs=("item-vectors",))

STEP = "item-neighbours"


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write every item's nearest ones; an item without a text has none and is nobody's."""
    k = run.config.texts.neighbours

    def write(folder: Path) -> dict[str, Any]:
        vectors = ItemVectors.read(run.folder(refs, "item-vectors")).vectors
        found = neighbours(vectors, k, progress, what="items")  # row 0 is padding: zeros, so it is nobody's
        found.write(folder)
        return {
            "items": len(vectors) - 1,
            "without": int(np.count_nonzero((found.rows[1:] < 0).all(axis=1))),
            "neighbours": k,
            "mean_cosine": found.mean_cosine,
        }

    inputs = {"item-vectors": artefact(refs, "item-vectors")}
    return run.workspace.produce(STEP, run.dataset, write, inputs=inputs, config={"neighbours": k})


def features(folder: Path) -> dict[str, NDArray[Any]]:
    """`item_neighbours`: (I + 1, k) int32 item ids, the closest first, 0 where there are fewer and for padding;
    `item_neighbour_cosines`: (I + 1, k) float32, 0 there.
    """
    found = Neighbours.read(folder)
    return {"item_neighbours": np.maximum(found.rows, 0), "item_neighbour_cosines": found.cosines}
