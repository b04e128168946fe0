"""LLMSeR: Dual-Channel Training (§3.4, Eq. 9) of the backbone on histories and enhanced sequences, weighted by α.

S̃_u is the pseudo-prior items followed by S_u. With α = 0 for all it is ordinary training, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import PSEUDO, RELIABILITY
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.llmser.axes import axes
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.methods.trained import Axis, Lessons
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(
    title="LLMSeR",
    place=5,
    colour="ours",
    trained=True,
    usual=True,
    needs=("pseudo", "reliability"),
    ablations=("ccg", "snf", "arv", "rcs", "reason", "wd"),
)


def settings(config: RunConfig) -> dict[str, Any]:
    return {
        "pseudo_targets": config.reliability.pseudo_targets,
        "enhance_inference": config.reliability.enhance_inference,
    }


def searched(config: RunConfig) -> list[Axis]:
    return axes(config)


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """S_u and S̃_u (Eq. 9).

    The loss of S̃_u sums over t = 1 … n_u, as Eq. 7 words it and as the paper numbers S̃_u = {v_-M+1, …, v_0, v_1, …}:
    pseudo items are what the real ones are predicted from. Predicting the pseudo items too (`pseudo_targets`) teaches
    mostly these, M against a tail user's few items: on the sample N@10 was .188 against .344 (base .318, 30 epochs).
    """
    scores = pq.read_table(run.folder(refs, "reliability") / RELIABILITY, columns=["user", "alpha"])
    assert np.array_equal(histories.users, scores["user"].to_numpy()), "weights belong to other users"
    enhanced = histories.after(_pseudo_items(run, refs))
    prepended = enhanced.lengths - histories.lengths
    targets_too = run.config.reliability.pseudo_targets
    return Lessons(dual_channel(histories, enhanced, scores["alpha"].to_numpy(), None if targets_too else prepended))


def prior(run: Run, refs: Refs) -> Histories:
    """The pseudo items also stand before what a model is shown (`enhance_inference`)."""
    return _pseudo_items(run, refs) if run.config.reliability.enhance_inference else Histories.of([], [])


def _pseudo_items(run: Run, refs: Refs) -> Histories:
    return Histories.read(run.folder(refs, "pseudo") / PSEUDO)
