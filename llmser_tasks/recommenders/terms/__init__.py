"""Terms, one file each: what a training minimises, per user. A file's `make_term` makes a `UserTerm` (`term.py`)."""

from __future__ import annotations

import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import TERMS
from llmser_tasks.recommenders.features import Features, take
from llmser_tasks.recommenders.terms.term import TermInputs, UserTerm, WeightedTerm


def make_term(
    given: WeightedTerm, config: Recommender, items: int, features: Features, device: torch.device
) -> UserTerm:
    """
    Raises:
        InputError: a feature that it needs was not given.
    """
    taken = take(features, TERMS[given.name].features, f"The term {given.name}")
    on_device = {name: values.to(device) for name, values in taken.items()}
    term: UserTerm = TERMS.load(given.name).make_term(
        TermInputs(config, items, device, given.sequences, given.context, on_device)
    )
    return term
