"""Masking and RCS, the reason candidate selector (§3.3, Eq. 4): which items may the masked one be?

The last item of S_u is the masked item. The selector is a backbone trained forward on the masked histories, so it has
not memorised what it is asked to help guess; as the masked items are thereby outside its training, they are also what
its early stopping watches. Nothing here can name a validation or test item.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core import config
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import warm
from llmser_tasks.methods.held_out import note_held, split_last
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.changes import Changes, Former
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import earlier_pools, random_pools, write_pools


def train_forward(
    workspace: Workspace,
    dataset: str,
    recommender: config.Recommender,
    *,
    training: Artefact,
    items: int,
    seed: int,
    on_full: bool = False,
    former: Former | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on masked training histories, watching the masked items.

    Args:
        on_full: train on whole histories, as the paper words it; then a seeded share of users (`held_out_users`) lends
            its last items to early stopping, and only these are kept out of training.
        former: of a refresh: the training goes on from the earlier forward model. It has not seen the items masked
            now: they were masked then, or have come since, for an item keeps its place among those before and behind.
    """
    start = warm.start(workspace, former, "forward")
    if same := warm.as_it_was(start):
        return same
    recommender = warm.shortened(recommender, start)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
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
    return workspace.produce(
        "forward",
        dataset,
        write,
        inputs={"training": training} | warm.inputs(start),
        config={"recommender": settings, "items": items, "on_full": on_full},
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )


def masked_contexts(histories: Histories, pseudo: Histories) -> Histories:
    """What RCS sees of each user: the masked S_u; where masking leaves nothing (n_u = 1), the pseudo items."""
    masked = histories.drop_last()
    alone = masked.lengths == 0
    return masked.after(pseudo.select(np.isin(pseudo.users, masked.users[alone])))


def reason_pools(
    workspace: Workspace,
    dataset: str,
    pool: int,
    *,
    training: Artefact,
    pseudo: Artefact,
    items: int,
    seed: int,
    forward: Artefact | None,
    former: Former | None = None,
    progress: Progress = silent,
) -> Artefact:
    """F_u: the `pool` (H) best items for every masked history, in rank order, what RCS sees itself excluded (Eq. 4).

    A user with one item and no pseudo item has nothing to predict from and gets an empty pool.

    Args:
        forward: the forward model; None is the ablation without RCS: H uniformly random items per user.
        former: of a refresh: users whose S_u is the same keep the pool of the earlier run, and have the same pseudo
            items, because they keep the answers, too.
    """

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        contexts = masked_contexts(histories, Histories.read(workspace.folder(pseudo) / "pseudo.parquet"))
        known = contexts.lengths > 0
        pools, scores = np.zeros((len(contexts), pool), np.int32), np.zeros((len(contexts), pool), np.float32)
        open_ = known
        if former is not None:
            changes = Changes.read(workspace.folder(former.changes))
            open_ = known & ~changes.kept
            pools[changes.kept], scores[changes.kept] = earlier_pools(
                workspace.folder(former.made["rcs"]), changes, pool
            )
        seen = contexts.select(open_)
        if forward is None:
            pools[open_], scores[open_] = random_pools(seen, items, pool, seed, progress)
        elif len(seen):
            model = recommenders.load(workspace.folder(forward))
            pools[open_], scores[open_] = recommenders.top_k(model, seen, pool, seen, progress)
        return {
            "users": len(contexts),
            "without_context": int((~known).sum()),
            "taken_over": int((known & ~open_).sum()),
            "candidates": write_pools(folder, contexts.users, pools, scores),
        }

    return workspace.produce(
        "rcs",
        dataset,
        write,
        inputs={"training": training, "pseudo": pseudo}
        | ({"forward": forward} if forward else {})
        | ({"changes": former.changes, "former": former.made["rcs"]} if former else {}),
        config={"pool": pool, "items": items, "random": forward is None},
        chosen=modules_in(workspace.folder(forward)) if forward else [],
        seed=seed if forward is None else None,
    )
