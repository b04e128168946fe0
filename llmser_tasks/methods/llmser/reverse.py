"""CCG's model (§3.2): the backbone on histories back to front, so that the next item of a reversed S_u is one that may
precede v_1.
"""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import candidate_models, parts

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
    return candidate_models.train(run, refs, STEP, progress, backwards=True)
