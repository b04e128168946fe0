"""RLMRec: next items, and what is learned of items is held to what their texts say.

Contrastive alignment maps texts to where items' vectors are and tells each item by its text
(`recommenders.terms.text_contrast`); generative alignment masks items and maps the states there to texts
(`recommenders.terms.text_reconstruction`). Neither map is left in a trained model, which recommends as the base does.

The paper aligns a graph's users, too, with profiles that an LLM writes; here it is items with their own texts, as
LLM-ESR compares with it on sequential models.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import TERMS, Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.rlmrec.settings import Rlmrec
from llmser_tasks.methods.trained import Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts import item_vectors

DECLARED = Method(
    title="RLMRec",
    place=4,
    colour="fifteenth",
    trained=True,
    needs=("item-vectors",),
    terms=("text-contrast", "text-reconstruction"),
)

CONTRAST, RECONSTRUCTION = DECLARED.terms


def settings(config: RunConfig) -> dict[str, Any]:
    own = config.of(Rlmrec)
    masked = {"rlmrec_masked": own.rlmrec_masked} if own.rlmrec_alignment == "generative" else {}
    return masked | {
        "rlmrec_alignment": own.rlmrec_alignment,
        "rlmrec_weight": own.rlmrec_weight,
        "rlmrec_temperature": own.rlmrec_temperature,
    }


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """Next items and, where it has a weight, the alignment."""
    own = run.config.of(Rlmrec)
    terms = [WeightedTerm(histories)]
    if not own.rlmrec_weight:
        return Lessons(terms)
    name = CONTRAST if own.rlmrec_alignment == "contrastive" else RECONSTRUCTION
    terms += [WeightedTerm(histories, np.full(len(histories), own.rlmrec_weight, np.float32), name=name)]
    known = {**item_vectors.features(run.folder(refs, item_vectors.STEP))}
    features = known | {
        "alignment_temperature": np.array(own.rlmrec_temperature, np.float32),
        "alignment_masked": np.array(own.rlmrec_masked, np.float32),
    }
    return Lessons(terms, {feature: features[feature] for feature in TERMS[name].features})


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])
