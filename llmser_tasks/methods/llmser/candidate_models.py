"""The models that propose candidates: the backbone on training histories, in one direction or the other.

Nothing here can name a validation or test item: early stopping watches items of training histories, kept out of the
model's own training.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.held_out import note_held, split_last
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import earlier_run
from llmser_tasks.sequences.histories import Histories


def train(
    run: Run, refs: Refs, step: str, progress: Progress, *, backwards: bool, all_held_out: bool = False
) -> Artefact:
    """Train the backbone, watching items that are kept out of its training; in a refresh, go on from the earlier model.

    Args:
        backwards: it reads histories back to front, and what ends them, and may be held out, is the first item.
        all_held_out: of every user the item at the end is held out; else of a seeded share (`held_out_users`).
    """
    start = warm.start(run.workspace, earlier_run(run, refs), step)
    if same := warm.as_it_was(start):
        return same
    recommender = warm.shortened(run.config.recommender, start)
    items, seed = catalogue_size(run, refs), run.config.seed

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        if all_held_out:
            held = np.ones(len(histories), dtype=bool)
        else:
            held = warm.held_out(histories, recommender.held_out_users, seed, start)
        note_held(folder, histories, held)
        sequences, watch = split_last(histories.reverse() if backwards else histories, held)
        terms = [recommenders.WeightedTerm(sequences)]
        given = warm.arguments(start)
        summary = recommenders.train(recommender, terms, items, seed, folder, watch=watch, progress=progress, **given)
        return {"watched": len(watch.targets)} | asdict(summary)

    settings = recommender.model_copy(update={"held_out_users": 0.0}) if all_held_out else recommender  # not used
    return run.workspace.produce(
        step,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training")} | warm.inputs(start),
        config={"recommender": settings, "items": items, "backwards": backwards, "all_held_out": all_held_out},
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )
