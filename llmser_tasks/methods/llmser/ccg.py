"""CCG, the collaborative candidate generator (§3.2, Eq. 2): which items may have come before a user's first one?"""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import candidate_pools, parts
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Propose candidates (CCG)", place=2, needs=("reverse",), ranks=True, kept=True)

STEP = parts.CCG


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """R_u: the `pool` (N) best items for every reversed S_u, in rank order, S_u itself excluded (Eq. 2).

    Without CCG it is N uniformly random items per user.
    """
    shown = candidate_pools.Shown(Histories.of_run, backwards=True)
    size = run.config.augmentation.pool
    return candidate_pools.make(run, refs, STEP, progress, model=parts.REVERSE, size=size, shown=shown)
