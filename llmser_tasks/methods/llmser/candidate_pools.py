"""Pools of candidates: what a model ranks highest after what it is shown of each user; in an ablation, random items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import Changes, earlier_run
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import earlier_pools, random_pools, write_pools


@dataclass(frozen=True)
class Shown:
    """What a step shows its model.

    Attributes:
        contexts: what is known of each training user, oldest first; the pool holds none of it.
        made_of: artefacts that contexts are made of, beside the training histories.
        backwards: the model reads them back to front.
    """

    contexts: Callable[[Run, Refs], Histories]
    made_of: Sequence[str] = ()
    backwards: bool = False


def make(run: Run, refs: Refs, step: str, progress: Progress, *, model: str, size: int, shown: Shown) -> Artefact:
    """A pool of the `size` best items per user, in rank order; a user of whom nothing is known gets an empty one.

    In a refresh, users whose S_u is the same keep the pool of the earlier run (`sequences.changes`).

    Args:
        step: whose pools; its own module makes the contexts.
        model: the step that trained the model; where the run leaves it out, pools are uniformly random.
    """
    items, seed = catalogue_size(run, refs), run.config.seed
    trained = None if parts.left_out(model, run.config) else artefact(refs, model)
    earlier = earlier_run(run, refs)
    before = earlier.made[step] if earlier else None

    def write(folder: Path) -> dict[str, Any]:
        contexts = shown.contexts(run, refs)
        known = contexts.lengths > 0
        pools, scores = np.zeros((len(contexts), size), np.int32), np.zeros((len(contexts), size), np.float32)
        open_ = known
        if earlier is not None and before is not None:
            changes = Changes.read(run.workspace.folder(earlier.changes))
            open_ = known & ~changes.kept
            same = earlier_pools(run.workspace.folder(before), changes, size)
            pools[changes.kept], scores[changes.kept] = same
        seen = contexts.select(open_)
        if trained is None:
            pools[open_], scores[open_] = random_pools(seen, items, size, seed, progress)
        elif len(seen):
            loaded = recommenders.load(run.workspace.folder(trained))
            read = seen.reverse() if shown.backwards else seen
            pools[open_], scores[open_] = recommenders.top_k(loaded, read, size, seen, progress)
        return {
            "users": len(contexts),
            "without_context": int((~known).sum()),
            "taken_over": int((known & ~open_).sum()),
            "candidates": write_pools(folder, contexts.users, pools, scores),
        }

    return run.workspace.produce(
        step,
        run.dataset,
        write,
        inputs={name: artefact(refs, name) for name in ("training", *shown.made_of)}
        | ({model: trained} if trained else {})
        | ({"changes": earlier.changes, "former": before} if earlier and before else {}),
        config={"pool": size, "items": items, "random": trained is None, "backwards": shown.backwards},
        chosen=[STEPS.module_of(step), *(modules_in(run.workspace.folder(trained)) if trained else [])],
        seed=seed if trained is None else None,
    )
