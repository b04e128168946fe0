"""LLM-ESR: items in two views, of interactions and of texts, and users who learn from those whose texts are alike.

The views look at each other and share one encoder (`recommenders.items.dual_view`); a user's state is drawn towards
those of the nearest users (`recommenders.terms.distillation`). These files say where the released code is wrong and
what is done instead. Everything comes from training histories, and a trained model needs no text to recommend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.llm_esr.settings import LlmEsr
from llmser_tasks.methods.trained import Axis, Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts import user_neighbours

DECLARED = Method(
    title="LLM-ESR",
    place=4,
    colour="seventh",
    trained=True,
    needs=("item-vectors", "user-neighbours"),
    item_table="dual-view",
    terms=("distillation",),
    ablations=(
        "co-view",
        "se-view",
        "self-distillation",
        "sharing",
        "cross-attention",
        "second-layer",
        "pca-start",
        "freezing",
    ),
)

DISTILLED = "self-distillation"  # the part that is a term; the others are parts of the item table
CROSSED = "cross-attention"
BARENESS, NEEDED = "bare-attention", ("co-view", "se-view", CROSSED)  # what is bare, unless there is none
WEIGHTS = (0.0, 0.01, 0.1, 1.0)  # of the distillation that a search tries


def settings(config: RunConfig) -> dict[str, Any]:
    own = config.of(LlmEsr)
    return {
        "esr_distillation": own.esr_distillation,
        "esr_neighbours": own.esr_neighbours,
        "esr_cross_attention": own.esr_cross_attention,
        "without": [part for part in DECLARED.ablations if config.without(part)],
    }


def searched(config: RunConfig) -> list[Axis]:
    """With cross-attention of both forms and without, and how much users learn from each other; no part comes back that
    a run leaves out.
    """
    found = []
    if not config.without(CROSSED):
        residual = {"esr_cross_attention": "residual"}
        found.append(Axis([{}, residual, {"without": (*config.augmentation.without, CROSSED)}]))
    if not config.without(DISTILLED):
        found.append(Axis([{}, *({"esr_distillation": weight} for weight in WEIGHTS)]))
    return found


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """Next items, and for users who have neighbours the distance to these.

    Raises:
        InputError: there are fewer neighbours than are to teach.
    """
    own = run.config.of(LlmEsr)
    terms, features = [WeightedTerm(histories)], {}
    if own.esr_distillation and not run.config.without(DISTILLED):
        found = user_neighbours.features(run.folder(refs, user_neighbours.STEP))["user_neighbours"]
        if found.shape[1] < own.esr_neighbours:
            raise InputError(
                f"LLM-ESR was to learn from {own.esr_neighbours} neighbours of every user (esr_neighbours), but only "
                f"{found.shape[1]} were looked for (neighbours); raise the one or lower the other."
            )
        features["user_neighbours"] = np.ascontiguousarray(found[:, : own.esr_neighbours])
        weight = np.full(len(histories), own.esr_distillation, np.float32)
        terms += [WeightedTerm(histories, weight, name=name) for name in DECLARED.terms]
    left_out = [part for part in DECLARED.ablations if part != DISTILLED and run.config.without(part)]
    if own.esr_cross_attention == "residual" and not set(left_out) & set(NEEDED):
        left_out.append(BARENESS)
    return Lessons(terms, features, table_without=left_out)


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])
