"""RCS's model (§3.3): the backbone forward on histories without their last item, the masked one.

So it has not memorised what it is to help guess; and since the masked items are outside its training, early stopping
watches them. Nothing here can name a validation or test item.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.held_out import note_held, split_last
from llmser_tasks.methods.llmser import parts
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import former_of
from llmser_tasks.sequences.enough import BRING_MORE
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Train forwards on masked histories", place=3, trains=True)

STEP = parts.FORWARD


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def check(run: Run, refs: Refs) -> None:
    """
    Raises:
        InputError: masking leaves no next item to learn.
    """
    training = run.workspace.summary(artefact(refs, "training"))
    if training["lengths"]["max"] < 3 and not run.config.reliability.forward_on_full:
        raise InputError(
            f"None of the {training['users']:,} users of dataset {run.dataset} has three training items: with the last "
            f"one masked (RCS) there is no next item to learn; {BRING_MORE}, or run without rcs."
        )


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Train the backbone on masked training histories, watching the masked items.

    With `forward_on_full` it is trained on whole histories, as the paper words it; then a seeded share of users
    (`held_out_users`) lends its last items to early stopping, and only these are kept out of training. In a refresh the
    training goes on from the earlier forward model. It has not seen the items masked now: they were masked then, or
    have come since, because an item keeps its place among its neighbours.
    """
    start = warm.start(run.workspace, former_of(run, refs), STEP)
    if same := warm.as_it_was(start):
        return same
    recommender = warm.shortened(run.config.recommender, start)
    on_full = run.config.reliability.forward_on_full
    items, seed = catalogue_size(run, refs), run.config.seed

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        held = np.ones(len(histories), dtype=bool)
        if on_full:
            held = warm.held_out(histories, recommender.held_out_users, seed, start)
        note_held(folder, histories, held)
        sequences, watch = split_last(histories, held)
        terms = [recommenders.WeightedTerm(sequences)]
        given = warm.arguments(start)
        summary = recommenders.train(recommender, terms, items, seed, folder, watch=watch, progress=progress, **given)
        return {"watched": len(watch.targets)} | asdict(summary)

    settings = recommender if on_full else recommender.model_copy(update={"held_out_users": 0.0})  # not used
    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training")} | warm.inputs(start),
        config={"recommender": settings, "items": items, "on_full": on_full},
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )
