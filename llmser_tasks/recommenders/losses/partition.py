"""What the two softmaxes share: the logarithm of their partition function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.own_scores import own_scores

IN_CACHE = 1 << 17  # scores that a CPU works on at a time: half a MB stays in a core's cache
FEWEST = 64  # positions in a matrix product, below which it gets slower


def scores_of(items: Tensor, states: Tensor, table: Tensor) -> Tensor:
    """(P,) score of one item per position."""
    return own_scores(states, items[:, None], table)[:, 0]


class _LogPartition(torch.autograd.Function):
    """log Σ_k w_k e^{s_k} of every position, over one (P, K) buffer where autograd would fill five.

    On a CPU a stretch of positions goes through all operations before the next one, so their scores stay in cache.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, others: Tensor, log_weight: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Position `row[i]` leaves negative `column[i]` out; `row` ascends."""
        weights = states.new_empty(len(states), len(others))
        most, total = states.new_empty(len(states), 1), states.new_empty(len(states), 1)
        at_once = _at_once(weights)
        left_out = torch.bincount(row // at_once, minlength=max(1, math.ceil(len(states) / at_once))).tolist()
        parts = [torch.split(tensor, at_once) for tensor in (states, weights, most, total)]
        parts += [torch.split(tensor, left_out) for tensor in (row % at_once, column)]
        for own, scores, peak, sums, rows, columns in zip(*parts, strict=True):
            torch.mm(own, others.T, out=scores).add_(log_weight)
            scores[rows, columns] = -torch.inf
            torch.amax(scores, 1, keepdim=True, out=peak).clamp_(min=torch.finfo(peak.dtype).min)  # all left out
            torch.sum(scores.sub_(peak).exp_(), 1, keepdim=True, out=sums)
        total.clamp_(min=torch.finfo(total.dtype).tiny)
        ctx.save_for_backward(states, others, weights, total)
        return (total.log() + most)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The softmax weights / total, times the gradient, is what reaches every score."""
        states, others, weights, total = ctx.saved_tensors
        share = gradients[0][:, None] / total
        of_states, of_others = torch.empty_like(states), torch.zeros_like(others)
        parts = (torch.split(tensor, _at_once(weights)) for tensor in (weights, states * share, of_states))
        for scores, shared, of_own in zip(*parts, strict=True):
            torch.mm(scores, others, out=of_own)
            of_others.addmm_(scores.T, shared)
        return of_states.mul_(share), of_others, None, None, None


log_partition: Callable[..., Tensor] = _LogPartition.apply


def _at_once(scores: Tensor) -> int:
    """How many positions' scores (P, K) to work on at a time."""
    return max(1, len(scores)) if devices.on_gpu(scores) else max(FEWEST, IN_CACHE // scores.shape[1])
