"""LLMSeR: the backbone on histories and enhanced sequences, by DCT, Dual-Channel Training (§3.4, Eq. 9).

Seed, budget, settings and early stopping are the base's; each user's share of S̃_u is set by α_u.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmser_tasks import recommenders
from llmser_tasks.core import config
from llmser_tasks.core.files import PSEUDO, RELIABILITY
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import warm
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.methods.training import produce, watch
from llmser_tasks.methods.warm import Start
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="LLMSeR", place=4, colour="llmser", trained="weighted")


def train(
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
        context = None if pseudo_targets else enhanced.lengths - histories.lengths
        terms = dual_channel(histories, enhanced, scores["alpha"].to_numpy(), context)
        seen = watch(workspace, validation, enhanced if enhance_inference else histories, histories)
        summary = recommenders.train(
            recommender, terms, items, seed, folder, watch=seen, progress=progress, **warm.arguments(start)
        )
        return asdict(summary)

    inputs = {"training": training, "validation": validation, "pseudo": pseudo, "reliability": reliability}
    inputs |= warm.inputs(start)
    switches = {"pseudo_targets": pseudo_targets, "enhance_inference": enhance_inference}
    return produce(workspace, dataset, f"weighted/{seed}", write, inputs, switches, recommender, start, items, seed)
