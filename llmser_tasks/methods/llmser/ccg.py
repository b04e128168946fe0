"""CCG, the collaborative candidate generator (§3.2, Eq. 2): which items may stand before a user's first one?

A backbone is trained on histories back to front, so the next item it predicts for the reversed S_u is one that may
have come before v_1. Nothing here can name a validation or test item: early stopping watches first items of training
histories, kept out of the model's own training.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

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


def catalogue_size(workspace: Workspace, catalogue: Artefact) -> int:
    """I: item ids are 1 … I."""
    return int(pq.read_metadata(workspace.folder(catalogue) / "items.parquet").num_rows)


def train_reverse(
    workspace: Workspace,
    dataset: str,
    recommender: config.Recommender,
    *,
    training: Artefact,
    items: int,
    seed: int,
    former: Former | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on reversed training histories.

    A seeded share of users (`held_out_users`) lends its first items to early stopping; these are removed from the
    users' own training sequences.

    Args:
        former: of a refresh: the training goes on from the earlier reverse model, which kept these items out, too.
    """
    start = warm.start(workspace, former, "reverse")
    if same := warm.as_it_was(start):
        return same
    recommender = warm.shortened(recommender, start)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        held = warm.held_out(histories, recommender.held_out_users, seed, start)
        note_held(folder, histories, held)
        sequences, watch = split_last(histories.reverse(), held)
        terms = [recommenders.WeightedTerm(sequences)]
        given = warm.arguments(start)
        summary = recommenders.train(recommender, terms, items, seed, folder, watch=watch, progress=progress, **given)
        return {"watched": len(watch.targets)} | asdict(summary)

    return workspace.produce(
        "reverse",
        dataset,
        write,
        inputs={"training": training} | warm.inputs(start),
        config={"recommender": recommender, "items": items},
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )


def candidate_pools(
    workspace: Workspace,
    dataset: str,
    pool: int,
    *,
    training: Artefact,
    items: int,
    seed: int,
    reverse: Artefact | None,
    former: Former | None = None,
    progress: Progress = silent,
) -> Artefact:
    """R_u: the `pool` (N) best items for every reversed S_u, in rank order, S_u itself excluded (Eq. 2).

    Args:
        reverse: the reverse model; None is the ablation without CCG: N uniformly random items per user.
        former: of a refresh: users whose S_u is the same keep the pool of the earlier run (`sequences.changes`).
    """

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        pools, scores = np.zeros((len(histories), pool), np.int32), np.zeros((len(histories), pool), np.float32)
        open_ = np.ones(len(histories), bool)
        if former is not None:
            changes = Changes.read(workspace.folder(former.changes))
            open_ = ~changes.kept
            pools[~open_], scores[~open_] = earlier_pools(workspace.folder(former.made["ccg"]), changes, pool)
        asked = histories.select(open_)
        if reverse is None:
            pools[open_], scores[open_] = random_pools(asked, items, pool, seed, progress)
        elif len(asked):
            model = recommenders.load(workspace.folder(reverse))
            pools[open_], scores[open_] = recommenders.top_k(model, asked.reverse(), pool, asked, progress)
        return {
            "users": len(histories),
            "taken_over": int((~open_).sum()),
            "candidates": write_pools(folder, histories.users, pools, scores),
        }

    return workspace.produce(
        "ccg",
        dataset,
        write,
        inputs={"training": training}
        | ({"reverse": reverse} if reverse else {})
        | ({"changes": former.changes, "former": former.made["ccg"]} if former else {}),
        config={"pool": pool, "items": items, "random": reverse is None},
        chosen=modules_in(workspace.folder(reverse)) if reverse else [],
        seed=seed if reverse is None else None,
    )
