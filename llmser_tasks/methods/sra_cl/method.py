"""SRA-CL: next items, and what is near by its text is told from what is not.

A user is told from others by the users with the nearest texts (`recommenders.terms.neighbour_contrast`), and two views
of a history, in which some items are replaced by others with nearly the same text, from those of other users
(`recommenders.terms.view_contrast`). Nothing of it is left in a trained model, which recommends as the base does.

The paper has an LLM describe users and items, and embeds what it says; here it is the items' own texts. It compares by
dot products; here it is by cosines, which no backbone or item table can raise by making its states longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import TERMS, Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.sra_cl.settings import SraCl
from llmser_tasks.methods.trained import Axis, Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts import item_neighbours, user_neighbours

DECLARED = Method(
    title="SRA-CL",
    place=4,
    colour="ninth",
    trained=True,
    needs=("user-neighbours", "item-neighbours"),
    terms=("neighbour-contrast", "view-contrast"),
)

WEIGHTS = (0.0, 0.01, 0.1)  # of a contrast, that a search tries


def settings(config: RunConfig) -> dict[str, Any]:
    own = config.of(SraCl)
    return {
        "sra_neighbour_contrast": own.sra_neighbour_contrast,
        "sra_view_contrast": own.sra_view_contrast,
        "sra_replaced": own.sra_replaced,
        "sra_temperature": own.sra_temperature,
    }


def searched(config: RunConfig) -> list[Axis]:
    """Both weights."""
    del config
    names = ("sra_neighbour_contrast", "sra_view_contrast")
    return [Axis([{}, *({name: weight} for weight in WEIGHTS)]) for name in names]


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """Next items, and each contrast that has a weight."""
    own = run.config.of(SraCl)
    weights = dict(zip(DECLARED.terms, (own.sra_neighbour_contrast, own.sra_view_contrast), strict=True))
    terms = {name: np.full(len(histories), weight, np.float32) for name, weight in weights.items() if weight}
    known = user_neighbours.features(run.folder(refs, user_neighbours.STEP))
    known |= item_neighbours.features(run.folder(refs, item_neighbours.STEP))
    known["contrast_replaced"] = np.array(own.sra_replaced, np.float32)
    known["contrast_temperature"] = np.array(own.sra_temperature, np.float32)
    return Lessons(
        [WeightedTerm(histories), *(WeightedTerm(histories, weight, name=name) for name, weight in terms.items())],
        {feature: known[feature] for name in terms for feature in TERMS[name].features},
    )


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])
