"""What a term trains beside the model: it is a part of the model while that is trained, and some stay with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from llmser_tasks.core.kinds import TERMS
from llmser_tasks.recommenders.features import Features, take


class Part(nn.Module):
    """A term's file makes one with `make_part(width, features)`: from the width of a model's states and the features
    that the term names. What stays with the model is made again without features, before it gets its weights back.

    Attributes:
        kept: whether a finished model has it still.
    """

    kept: ClassVar[bool] = False

    def served(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, w) states that score the next item, from those (B, w) that the model has after rows of so many items
        (B,); here the same.
        """
        del lengths
        return states


def make_parts(terms: Iterable[str], width: int, features: Features | None = None) -> dict[str, Part]:
    """What these terms train beside a model, by their names; most train nothing.

    Args:
        features: of a training; None: there is none, and weights will be put into them.

    Raises:
        InputError: a feature that one needs was not given.
    """
    parts: dict[str, Part] = {}
    for term in dict.fromkeys(terms):
        module = TERMS.load(term)
        if hasattr(module, "make_part"):
            given = {} if features is None else take(features, TERMS[term].features, f"The term {term}")
            parts[term] = module.make_part(width, given)
    return parts
