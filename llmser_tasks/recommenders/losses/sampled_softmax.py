"""Sampled softmax over negatives that a batch shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Loss
from llmser_tasks.recommenders import negatives as drawn
from llmser_tasks.recommenders.kernels.gather import pick
from llmser_tasks.recommenders.losses import LossFunction
from llmser_tasks.recommenders.losses.partition import log_partition, scores_of
from llmser_tasks.recommenders.negatives import Negatives

DECLARED = Loss(title="sampled softmax", place=1, negatives=1024, shared=True)

make_sampler = drawn.shared


def make_loss(config: Recommender, items: int) -> LossFunction:
    del config, items
    return sampled_softmax


def sampled_softmax(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / (e^{s⁺} + Σ_k w_k e^{s_k}) ) over shared (K,) negatives, less the one that is the positive.

    w_k makes the sum an unbiased estimate of the softmax's partition function (see `negatives`), so the positive, which
    is always in it, has weight 1. With the whole catalogue as negatives this is full cross-entropy.
    """
    assert negatives.log_weight is not None, "sampled softmax takes shared negatives"
    column = torch.searchsorted(negatives.items, positives).clamp(max=len(negatives.items) - 1)
    row = torch.nonzero(negatives.items[column] == positives)[:, 0]
    others = pick(table, negatives.items)
    partition = log_partition(states, others, negatives.log_weight, row, column[row])
    return F.softplus(partition - scores_of(positives, states, table))
