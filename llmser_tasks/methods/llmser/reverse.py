"""CCG's model (§3.2): the backbone on histories back to front, so that the next item of a reversed S_u is one that may
precede v_1.

Nothing here can name a validation or test item: early stopping watches first items of training histories, kept out of
the model's own training.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.held_out import note_held, split_last
from llmser_tasks.methods.llmser import parts
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import former_of
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Train backwards", place=1, trains=True)

STEP = parts.REVERSE


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Train the backbone on reversed training histories.

    A seeded share of users (`held_out_users`) lends its first items to early stopping; these are removed from the
    users' own training sequences. In a refresh the training goes on from the earlier reverse model, which kept these
    items out, too.
    """
    start = warm.start(run.workspace, former_of(run, refs), STEP)
    if same := warm.as_it_was(start):
        return same
    recommender = warm.shortened(run.config.recommender, start)
    items, seed = catalogue_size(run, refs), run.config.seed

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        held = warm.held_out(histories, recommender.held_out_users, seed, start)
        note_held(folder, histories, held)
        sequences, watch = split_last(histories.reverse(), held)
        terms = [recommenders.WeightedTerm(sequences)]
        given = warm.arguments(start)
        summary = recommenders.train(recommender, terms, items, seed, folder, watch=watch, progress=progress, **given)
        return {"watched": len(watch.targets)} | asdict(summary)

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training")} | warm.inputs(start),
        config={"recommender": recommender, "items": items},
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )
