"""RCS, the reason candidate selector (§3.3, Eq. 4): which items might the masked one, the last of S_u, be?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import PSEUDO
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import Changes, former_of
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import earlier_pools, random_pools, write_pools

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
    answers.
    """
    size, items, seed = run.config.reliability.reason_pool, catalogue_size(run, refs), run.config.seed
    trained = None if parts.left_out(parts.FORWARD, run.config) else artefact(refs, parts.FORWARD)
    former = former_of(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        contexts = masked_contexts(histories, Histories.read(run.folder(refs, "pseudo") / PSEUDO))
        known = contexts.lengths > 0
        pools, scores = np.zeros((len(contexts), size), np.int32), np.zeros((len(contexts), size), np.float32)
        open_ = known
        if former is not None:
            changes = Changes.read(run.workspace.folder(former.changes))
            open_ = known & ~changes.kept
            earlier = earlier_pools(run.workspace.folder(former.made[STEP]), changes, size)
            pools[changes.kept], scores[changes.kept] = earlier
        seen = contexts.select(open_)
        if trained is None:
            pools[open_], scores[open_] = random_pools(seen, items, size, seed, progress)
        elif len(seen):
            model = recommenders.load(run.workspace.folder(trained))
            pools[open_], scores[open_] = recommenders.top_k(model, seen, size, seen, progress)
        return {
            "users": len(contexts),
            "without_context": int((~known).sum()),
            "taken_over": int((known & ~open_).sum()),
            "candidates": write_pools(folder, contexts.users, pools, scores),
        }

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training"), "pseudo": artefact(refs, "pseudo")}
        | ({parts.FORWARD: trained} if trained else {})
        | ({"changes": former.changes, "former": former.made[STEP]} if former else {}),
        config={"pool": size, "items": items, "random": trained is None},
        chosen=modules_in(run.workspace.folder(trained)) if trained else [],
        seed=seed if trained is None else None,
    )
