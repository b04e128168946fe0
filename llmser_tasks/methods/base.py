"""The backbone on histories alone: what the others are compared with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmser_tasks import recommenders
from llmser_tasks.core import config
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import warm
from llmser_tasks.methods.training import produce, watch
from llmser_tasks.methods.warm import Start
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="base", place=3, colour="base", trained="base")


def train(
    workspace: Workspace,
    dataset: str,
    recommender: config.Recommender,
    *,
    training: Artefact,
    validation: Artefact,
    items: int,
    seed: int,
    start: Start | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on S_u alone.

    Args:
        start: of a refresh: the earlier base to go on from, as `earlier` finds it.
    """
    if same := warm.as_it_was(start, validation=validation):
        return same
    recommender = warm.shortened(recommender, start)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        seen = watch(workspace, validation, histories, histories)
        terms = [recommenders.WeightedTerm(histories)]
        given = warm.arguments(start)
        return asdict(
            recommenders.train(recommender, terms, items, seed, folder, watch=seen, progress=progress, **given)
        )

    inputs = {"training": training, "validation": validation} | warm.inputs(start)
    return produce(workspace, dataset, f"base/{seed}", write, inputs, {}, recommender, start, items, seed)
