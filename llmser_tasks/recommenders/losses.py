"""Losses with one signature: (states, positives, negatives, table) → the loss of every position.

    states     (P, d)      what the model made of the items before each position
    positives  (P,)        the item that came next
    negatives  Negatives   what it is compared with
    table      (I + 1, d)  item embeddings; row 0 is padding
    returns    (P,)        one loss per position; their sum over a user's positions is L(S_u)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.config import Loss
from llmser_tasks.recommenders.negatives import Negatives

LossFunction = Callable[[Tensor, Tensor, Negatives, Tensor], Tensor]


def bce(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """Binary cross-entropy, LLMSeR Eq. 7: -log σ(s⁺) - Σ_k log(1 - σ(s⁻_k)), with (P, K) negatives per position."""
    positive = (states * F.embedding(positives, table)).sum(1)
    negative = torch.bmm(F.embedding(negatives.items, table), states[:, :, None])[:, :, 0]
    return F.softplus(-positive) + F.softplus(negative).sum(1)


def sampled_softmax(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / (e^{s⁺} + Σ_k w_k e^{s_k}) ) over shared (K,) negatives, less the one that is the positive.

    w_k makes the sum an unbiased estimate of the softmax's partition function (see `SharedUniform`), so the positive,
    which is in it with certainty, has weight 1. With the whole catalogue as negatives this is full cross-entropy.
    """
    positive = (states * F.embedding(positives, table)).sum(1)
    assert negatives.log_weight is not None, "sampled softmax takes shared negatives"
    scores = torch.addmm(negatives.log_weight, states, F.embedding(negatives.items, table).T)
    column = torch.searchsorted(negatives.items, positives).clamp(max=len(negatives.items) - 1)
    collision = torch.nonzero(negatives.items[column] == positives)[:, 0]
    scores = scores.index_put((collision, column[collision]), scores.new_tensor(-torch.inf))
    return F.softplus(scores.logsumexp(1) - positive)


LOSSES: dict[Loss, LossFunction] = {"bce": bce, "sampled-softmax": sampled_softmax}
