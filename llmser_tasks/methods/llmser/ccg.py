"""CCG, the collaborative candidate generator (§3.2, Eq. 2): which items may have come before a user's first one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
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

DECLARED = Step(title="Propose candidates (CCG)", place=2, needs=("reverse",), ranks=True, kept=True)

STEP = parts.CCG


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """R_u: the `pool` (N) best items for every reversed S_u, in rank order, S_u itself excluded (Eq. 2).

    Without CCG it is N uniformly random items per user. In a refresh, users whose S_u is the same keep the pool of the
    earlier run (`sequences.changes`).
    """
    size, items, seed = run.config.augmentation.pool, catalogue_size(run, refs), run.config.seed
    trained = None if parts.left_out(parts.REVERSE, run.config) else artefact(refs, parts.REVERSE)
    former = former_of(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        pools, scores = np.zeros((len(histories), size), np.int32), np.zeros((len(histories), size), np.float32)
        open_ = np.ones(len(histories), bool)
        if former is not None:
            changes = Changes.read(run.workspace.folder(former.changes))
            open_ = ~changes.kept
            pools[~open_], scores[~open_] = earlier_pools(run.workspace.folder(former.made[STEP]), changes, size)
        asked = histories.select(open_)
        if trained is None:
            pools[open_], scores[open_] = random_pools(asked, items, size, seed, progress)
        elif len(asked):
            model = recommenders.load(run.workspace.folder(trained))
            pools[open_], scores[open_] = recommenders.top_k(model, asked.reverse(), size, asked, progress)
        return {
            "users": len(histories),
            "taken_over": int((~open_).sum()),
            "candidates": write_pools(folder, histories.users, pools, scores),
        }

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training")}
        | ({parts.REVERSE: trained} if trained else {})
        | ({"changes": former.changes, "former": former.made[STEP]} if former else {}),
        config={"pool": size, "items": items, "random": trained is None},
        chosen=modules_in(run.workspace.folder(trained)) if trained else [],
        seed=seed if trained is None else None,
    )
