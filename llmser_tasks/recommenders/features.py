"""Features: named arrays that a training gets besides sequences, for its item table and its terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES, TERMS

Features: TypeAlias = Mapping[str, NDArray[np.generic]]


def take(features: Features, names: Iterable[str], taker: str) -> dict[str, Tensor]:
    """Copies of the named features, on the CPU.

    Args:
        taker: who needs them, for the message.

    Raises:
        InputError: one was not given.
    """
    missing = [name for name in names if name not in features]
    if missing:
        raise InputError(f"{taker} needs the feature {missing[0]}, which the training was not given; hand it over.")
    return {name: torch.tensor(features[name]) for name in names}


def refuse_unused(features: Features, item_table: str, terms: Iterable[str]) -> None:
    """
    Raises:
        InputError: there is a feature that neither the item table nor a term takes.
    """
    taken = set(ITEM_TABLES[item_table].features).union(*(TERMS[term].features for term in terms))
    if unused := sorted(set(features) - taken):
        raise InputError(
            f"The training was given the feature {unused[0]}, which neither its item table ({item_table}) nor any of "
            "its terms takes; leave it out, or name what takes it."
        )
