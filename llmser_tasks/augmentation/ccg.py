"""CCG, the collaborative candidate generator (§3.2, Eq. 2): which items may stand before a user's first one?

A backbone is trained on histories back to front, so the next item it predicts for the reversed S_u is one that may
have come before v_1. Nothing here can name a validation or test item: early stopping watches first items of training
histories, kept out of the model's own training.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmser_tasks import config, recommenders
from llmser_tasks.augmentation.held_out import share_of_users, split_last
from llmser_tasks.augmentation.pools import random_pools, write_pools
from llmser_tasks.progress import Progress, silent
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.workspace import Artefact, Workspace

PACKAGES = ("llmser_tasks.augmentation.ccg", "llmser_tasks.augmentation.held_out", "llmser_tasks.sequences.histories")
POOL_PACKAGES = (
    "llmser_tasks.augmentation.ccg",
    "llmser_tasks.augmentation.pools",
    "llmser_tasks.recommenders",
    "llmser_tasks.sequences.histories",
)


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
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on reversed training histories.

    A seeded share of users (`held_out_users`) lends its first items to early stopping; these are removed from the
    users' own training sequences.
    """

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        held = share_of_users(histories, recommender.held_out_users, seed)
        sequences, watch = split_last(histories.reverse(), held)
        summary = recommenders.train(recommender, sequences, items, seed, folder, watch=watch, progress=progress)
        return {"watched": len(watch.targets)} | asdict(summary)

    return workspace.produce(
        "reverse",
        dataset,
        write,
        inputs={"training": training},
        config={"recommender": recommender.model_dump(mode="json"), "items": items},
        packages=("llmser_tasks.recommenders", *PACKAGES),
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
    progress: Progress = silent,
) -> Artefact:
    """R_u: the `pool` (N) best items for every reversed S_u, in rank order, S_u itself excluded (Eq. 2).

    Args:
        reverse: the reverse model; None is the ablation without CCG: N uniformly random items per user.
    """

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        if reverse is None:
            pools, scores = random_pools(histories, items, pool, seed, progress)
        else:
            model = recommenders.load(workspace.folder(reverse))
            pools, scores = recommenders.top_k(model, histories.reverse(), pool, histories, progress)
        return {"users": len(histories), "candidates": write_pools(folder, histories.users, pools, scores)}

    return workspace.produce(
        "ccg",
        dataset,
        write,
        inputs={"training": training} | ({"reverse": reverse} if reverse else {}),
        config={"pool": pool, "items": items, "random": reverse is None},
        packages=POOL_PACKAGES,
        seed=seed if reverse is None else None,
    )
