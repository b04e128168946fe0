"""RCS, the reason candidate selector (§3.3, Eq. 4): which items might the masked one, the last of S_u, be?"""

from __future__ import annotations

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import PSEUDO
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import candidate_pools, parts
from llmser_tasks.sequences.catalogue import Ints
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Propose masked items (RCS)", place=6, needs=("forward", "pseudo"), ranks=True, kept=True)

STEP = parts.RCS


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def masked_contexts(histories: Histories, pseudo: Histories) -> Histories:
    """What RCS sees of each user: the masked S_u; where masking leaves nothing (n_u = 1), the pseudo items."""
    masked = histories.drop_last()
    alone = masked.lengths == 0
    return masked.after(pseudo.select(np.isin(pseudo.users, masked.users[alone])))


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """F_u: the `reason_pool` (H) best items for every masked history, in rank order, without what RCS sees (Eq. 4);
    without RCS, H uniformly random items per user.

    A user with one item and no pseudo item has nothing to predict from and gets an empty pool. In a refresh, users
    whose S_u is the same keep the pool of the earlier run; their pseudo items are the same too, because they keep the
    answers. With `masked_in_pool` the masked item stands last where it would be missing.
    """
    reliability = run.config.reliability
    return candidate_pools.make(
        run,
        refs,
        STEP,
        progress,
        sources={parts.FORWARD: candidate_pools.FromModel(parts.FORWARD)},
        size=reliability.reason_pool,
        shown=candidate_pools.Shown(_contexts, made_of=[parts.PSEUDO]),
        holds=_masked if reliability.masked_in_pool else None,
    )


def _masked(run: Run, refs: Refs) -> Ints:
    return Histories.of_run(run, refs).last()


def _contexts(run: Run, refs: Refs) -> Histories:
    return masked_contexts(Histories.of_run(run, refs), Histories.read(run.folder(refs, parts.PSEUDO) / PSEUDO))
