"""The users whose vectors are closest to each user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.texts import user_vectors
from llmser_tasks.texts.neighbours import Neighbours, neighbours

DECLARED = Step(title="Find neighbours of users", place=3, needs=("user-vectors",))

STEP = "user-neighbours"


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write every training user's nearest ones. They all have a training history; one whose items have no text has no
    neighbours and is nobody's.
    """
    k = run.config.texts.neighbours

    def write(folder: Path) -> dict[str, Any]:
        vectors = user_vectors.features(run.folder(refs, "user-vectors"))["user_vectors"]
        found = neighbours(vectors, k, progress, what="users")
        found.write(folder)
        return {
            "users": len(vectors),
            "without": int(np.count_nonzero((found.rows < 0).all(axis=1))),
            "neighbours": k,
            "mean_cosine": found.mean_cosine,
        }

    inputs = {"user-vectors": artefact(refs, "user-vectors")}
    return run.workspace.produce(STEP, run.dataset, write, inputs=inputs, config={"neighbours": k})


def features(folder: Path) -> dict[str, NDArray[Any]]:
    """`user_neighbours`: (U, k) int32, rows of the training histories, the closest first, -1 where there are fewer;
    `user_neighbour_cosines`: (U, k) float32, 0 there.
    """
    found = Neighbours.read(folder)
    return {"user_neighbours": found.rows, "user_neighbour_cosines": found.cosines}
