"""DCT, Dual-Channel Training (§3.4, Eq. 9), and the base recommender it is compared with.

Both have the same seed, budget and settings and stop early on the same validation targets; the weighted one learns
from S_u and S̃_u at once, each user's share set by α_u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmser_tasks import config, recommenders
from llmser_tasks.augmentation import warm
from llmser_tasks.augmentation.warm import Start
from llmser_tasks.files import PSEUDO, RELIABILITY
from llmser_tasks.progress import Progress, silent
from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.changes import Former, may_go_on
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets
from llmser_tasks.workspace import Artefact, Workspace


def train_base(
    workspace: Workspace,
    dataset: str,
    recommender: config.Recommender,
    *,
    training: Artefact,
    validation: Artefact,
    items: int,
    seed: int,
    start: Start | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on S_u alone.

    Args:
        start: of a refresh: the earlier base to go on from, as `earlier` finds it.
    """
    if same := warm.as_it_was(start, validation=validation):
        return same
    recommender = warm.shortened(recommender, start)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        watch = _watch(workspace, validation, histories, histories)
        given = warm.arguments(start)
        return asdict(
            recommenders.train(recommender, histories, items, seed, folder, watch=watch, progress=progress, **given)
        )

    inputs = {"training": training, "validation": validation} | warm.inputs(start)
    return _produce(workspace, dataset, f"base/{seed}", write, inputs, {}, recommender, start, items, seed)


def train_weighted(
    workspace: Workspace,
    dataset: str,
    recommender: config.Recommender,
    *,
    training: Artefact,
    validation: Artefact,
    pseudo: Artefact,
    reliability: Artefact,
    pseudo_targets: bool,
    enhance_inference: bool,
    items: int,
    seed: int,
    start: Start | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Train the backbone on S_u and S̃_u (Eq. 9).

    The loss of S̃_u sums over t = 1 … n_u, as Eq. 7 words it and as the paper numbers S̃_u = {v_-M+1, …, v_0, v_1, …}:
    pseudo items are what the real ones are predicted from. Asking for the pseudo items too teaches mostly these, M of
    them against the few items of a tail user: on the sample N@10 was .188 against .344 (base .318, 30 epochs).

    Args:
        pseudo_targets: ask for them all the same.
        enhance_inference: S̃_u also stands in for S_u where the model is watched, as it will where it recommends.
        start: of a refresh: the earlier weighted model to go on from, as `earlier` finds it.
    """
    if same := warm.as_it_was(start, validation=validation, pseudo=pseudo, reliability=reliability):
        return same
    recommender = warm.shortened(recommender, start)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        scores = pq.read_table(workspace.folder(reliability) / RELIABILITY, columns=["user", "alpha"])
        assert np.array_equal(histories.users, scores["user"].to_numpy()), "weights belong to other users"
        enhanced = histories.after(Histories.read(workspace.folder(pseudo) / PSEUDO))
        prepended = enhanced.lengths - histories.lengths
        watch = _watch(workspace, validation, enhanced if enhance_inference else histories, histories)
        summary = recommenders.train(
            recommender,
            histories,
            items,
            seed,
            folder,
            watch=watch,
            enhanced=enhanced,
            alpha=scores["alpha"].to_numpy(),
            context=None if pseudo_targets else prepended,
            progress=progress,
            **warm.arguments(start),
        )
        return asdict(summary)

    inputs = {"training": training, "validation": validation, "pseudo": pseudo, "reliability": reliability}
    inputs |= warm.inputs(start)
    switches = {"pseudo_targets": pseudo_targets, "enhance_inference": enhance_inference}
    return _produce(workspace, dataset, f"weighted/{seed}", write, inputs, switches, recommender, start, items, seed)


def earlier(
    workspace: Workspace,
    former: Former | None,
    name: str,
    *,
    catalogue: Artefact,
    training: Artefact,
    validation: Artefact,
) -> Start | None:
    """The earlier run's model of this name ("base/42"), which must not have been chosen by what is a test item now;
    None where there is none, or no refresh.
    """
    if former is None or name not in former.made:
        return None
    unspoilt = may_go_on(workspace, former, catalogue=catalogue, training=training, validation=validation)
    return warm.start(workspace, former, name) if unspoilt else None


def _watch(workspace: Workspace, validation: Artefact, shown: Histories, owned: Histories) -> Watch:
    """Validation targets behind the sequences that are shown; only what a user really owned is excluded."""
    targets = read_targets(workspace.folder(validation) / "targets.parquet")
    return Watch.of(targets.inputs(shown), targets.items, exclude=targets.inputs(owned))


def _produce(
    workspace: Workspace,
    dataset: str,
    step: str,
    write: Callable[[Path], dict[str, Any]],
    inputs: dict[str, Artefact],
    switches: dict[str, Any],
    recommender: config.Recommender,
    start: Start | None,
    items: int,
    seed: int,
) -> Artefact:
    return workspace.produce(
        step,
        dataset,
        write,
        inputs=inputs,
        config={"recommender": recommender, "items": items} | switches,
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )
