"""What BCE and gBCE share: binary cross-entropy that starts in balance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, array, compiled
from llmser_tasks.recommenders.kernels.own_scores import own_scores, own_scores_backward
from llmser_tasks.recommenders.negatives import Negatives


def balanced_binary(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor, power: float) -> Tensor:
    """(P,) -log σ(s⁺ - c)^power - Σ_k log(1 - σ(s⁻_k - c)), where c = log(K / power) makes the two balance at s = 0.

    A new model's scores are about 0. With c = 0 a few hundred negatives would push them all down alike, with gradients
    so large that Adam takes thousands of steps to forget them: on Beauty, K = 256, NDCG@10 stayed at .009 instead of
    .067. A constant leaves every order of items as it is (the prior of Lin et al., Focal loss, 2017).
    """
    items = torch.cat([positives[:, None], negatives.items], dim=1)
    prior = math.log(negatives.items.shape[1] / power)
    if not devices.on_gpu(states):
        return _binary_on_cpu(states, items, table, prior, power)
    scores = own_scores(states, items, table) - prior
    return power * F.softplus(-scores[:, 0]) + F.softplus(scores[:, 1:]).sum(1)


class _BinaryOnCpu(torch.autograd.Function):
    """`balanced_binary` and its slope by every score in one pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, table: Tensor, prior: float, power: float) -> Tensor:
        scores = own_scores(states, items, table)
        loss, slopes = scores.new_empty(len(scores)), torch.empty_like(scores)
        _binary_loop(array(scores), prior, power, array(loss), array(slopes))
        ctx.save_for_backward(states, items, table, slopes)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, items, table, slopes = ctx.saved_tensors
        of_states, of_table = own_scores_backward(states, items, table, slopes * gradients[0][:, None])
        return of_states, None, of_table, None, None


_binary_on_cpu: Callable[..., Tensor] = _BinaryOnCpu.apply


@compiled
def _binary_loop(scores: Floats, prior: float, power: float, loss: Floats, slopes: Floats) -> None:
    """loss (P,) of scores (P, 1 + K), positives first, and d loss / d score."""
    for place in range(len(scores)):
        total = 0.0
        for k in range(scores.shape[1]):
            weight, sign = (power, -1.0) if k == 0 else (1.0, 1.0)
            score = sign * (scores[place, k] - prior)
            small = math.exp(-abs(score))
            total += weight * (max(score, 0.0) + math.log1p(small))  # softplus
            slopes[place, k] = weight * sign * (1.0 if score >= 0 else small) / (1.0 + small)  # σ
        loss[place] = total
