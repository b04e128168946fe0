"""RCS's model (§3.3): the backbone forward on histories without their last item, the masked one.

So it has not memorised what it is to help guess; and since the masked items are outside its training, early stopping
watches them.
"""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import candidate_models, parts
from llmser_tasks.sequences.enough import BRING_MORE

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
    all_masked = not run.config.reliability.forward_on_full
    return candidate_models.train(run, refs, STEP, progress, backwards=False, all_held_out=all_masked)
