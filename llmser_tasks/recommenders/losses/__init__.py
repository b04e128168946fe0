"""Losses, one file each, with one signature: (states, positives, negatives, table) → the loss of every position.

states     (P, w)      what the model made of the items before each position
positives  (P,)        the item that came next
negatives  Negatives   what the positive is compared with
table      (R, w)      vectors that positives and negatives are rows of: those of the items at hand, or of the whole
                       catalogue with padding as row 0, where negatives are `whole`
returns    (P,)        one loss per position; their sum over a user's positions is L(S_u)

A loss's file has `make_loss(config, items)`, and says in `make_sampler` how its negatives are drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import LOSSES
from llmser_tasks.recommenders.negatives import Negatives, Sampler
from llmser_tasks.sequences.histories import Histories

LossFunction = Callable[[Tensor, Tensor, Negatives, Tensor], Tensor]


def make_loss(config: Recommender, items: int) -> LossFunction:
    """The configured loss over a catalogue of 1 … `items`."""
    loss: LossFunction = LOSSES.load(config.loss).make_loss(config, items)
    return loss


def make_sampler(
    config: Recommender,
    histories: Histories,
    items: int,
    device: torch.device,
    context: NDArray[np.int64] | None = None,
) -> Sampler:
    """What draws the configured loss's negatives.

    Args:
        context: (U,) how many of each history's first items are never targets, apart from its very first.
    """
    plain = histories.unmarked()  # what is drawn is an item, never a made-up one
    sampler: Sampler = LOSSES.load(config.loss).make_sampler(config, plain, items, device, context)
    return sampler
