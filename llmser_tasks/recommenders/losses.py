"""Losses with one signature: (states, positives, negatives, table) → the loss of every position.

states     (P, d)      what the model made of the items before each position
positives  (P,)        the item that came next
negatives  Negatives   what it is compared with
table      (I + 1, d)  item embeddings; row 0 is padding
returns    (P,)        one loss per position; their sum over a user's positions is L(S_u)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.config import Loss
from llmser_tasks.recommenders.negatives import Negatives

LossFunction = Callable[[Tensor, Tensor, Negatives, Tensor], Tensor]


class _LogPartition(torch.autograd.Function):
    """log Σ_k w_k e^{s_k} of every position, over one (P, K) buffer where autograd would fill five."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, others: Tensor, log_weight: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Position `row[i]` leaves negative `column[i]` out."""
        scores = torch.addmm(log_weight, states, others.T)
        scores[row, column] = -torch.inf
        most = scores.amax(1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)  # finite if all are left out
        weights = scores.sub_(most).exp_()
        total = weights.sum(1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).tiny)
        ctx.save_for_backward(states, others, weights, total)
        return (total.log() + most)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The softmax weights / total, times the gradient, is what reaches every score."""
        states, others, weights, total = ctx.saved_tensors
        share = gradients[0][:, None] / total
        return (weights @ others) * share, weights.T @ (states * share), None, None, None


_log_partition: Callable[..., Tensor] = _LogPartition.apply


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
    column = torch.searchsorted(negatives.items, positives).clamp(max=len(negatives.items) - 1)
    row = torch.nonzero(negatives.items[column] == positives)[:, 0]
    others = F.embedding(negatives.items, table)
    partition = _log_partition(states, others, negatives.log_weight, row, column[row])
    return F.softplus(partition - positive)


LOSSES: dict[Loss, LossFunction] = {"bce": bce, "sampled-softmax": sampled_softmax}
