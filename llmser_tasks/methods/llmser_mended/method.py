"""LLMSeR, mended: the same pseudo items and answers, more carefully used.

What the paper's form leaves open to doubt is decided otherwise: ω does not count what a random candidate would have
(`trust`), pseudo items carry a mark, and whoever's are not trusted at all is shown their history alone, in validation
and inference too, as they are trained on it alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import PSEUDO
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.llmser.axes import axes
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.methods.llmser_mended.settings import Mended
from llmser_tasks.methods.llmser_mended.trust import trust
from llmser_tasks.methods.trained import Axis, Lessons
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(
    title="LLMSeR, mended",
    place=6,
    colour="eighth",
    trained=True,
    needs=("pseudo", "rcs", "reliability", "item-vectors"),
)


def settings(config: RunConfig) -> dict[str, Any]:
    return {
        "omega": config.of(Mended).omega,
        "mark": config.of(Mended).mark,
        "compares": not config.without("arv"),
        "pseudo_targets": config.reliability.pseudo_targets,
        "enhance_inference": config.reliability.enhance_inference,
    }


def searched(config: RunConfig) -> list[Axis]:
    """LLMSeR's, and whether pseudo items carry a mark."""
    return [*axes(config), Axis([{}, {"mark": not config.of(Mended).mark}])]


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """S_u and S̃_u, as LLMSeR's (Eq. 9)."""
    alpha = trust(run, refs, histories.users)
    enhanced = histories.after(_pseudo_items(run, refs))
    prepended = enhanced.lengths - histories.lengths
    targets_too = run.config.reliability.pseudo_targets
    return Lessons(dual_channel(histories, enhanced, alpha, None if targets_too else prepended))


def prior(run: Run, refs: Refs) -> Histories:
    """Before what a model is shown stand the pseudo items of those users whose α is above 0 (`enhance_inference`)."""
    if not run.config.reliability.enhance_inference:
        return Histories.of([], [])
    pseudo = _pseudo_items(run, refs)
    return pseudo.select(np.flatnonzero(trust(run, refs, pseudo.users) > 0))


def _pseudo_items(run: Run, refs: Refs) -> Histories:
    pseudo = Histories.read(run.folder(refs, "pseudo") / PSEUDO)
    return pseudo.marked() if run.config.of(Mended).mark else pseudo
