"""Losses with one signature: (states, positives, negatives, table) → the loss of every position.

states     (P, d)      what the model made of the items before each position
positives  (P,)        the item that came next
negatives  Negatives   what it is compared with
table      (R, d)      embeddings that positives and negatives are rows of: those of the items at hand, or of the whole
                       catalogue with padding as row 0, where negatives are `whole`
returns    (P,)        one loss per position; their sum over a user's positions is L(S_u)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.config import Loss, Recommender
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.compiled import Floats, array, compiled
from llmser_tasks.recommenders.gather import pick
from llmser_tasks.recommenders.negatives import Negatives
from llmser_tasks.recommenders.own_scores import own_scores, own_scores_backward

LossFunction = Callable[[Tensor, Tensor, Negatives, Tensor], Tensor]

SCORES = 1 << 26  # scores of full cross-entropy held at once: 256 MB of floats …
SCORES_CUDA = 1 << 28  # … and 1 GB on a GPU
IN_CACHE = 1 << 17  # scores that a CPU works on together: half a MB stays in a core's cache
FEWEST = 64  # positions in a product of matrices, below which it gets slower


def make_loss(config: Recommender, items: int) -> LossFunction:
    """The configured loss over a catalogue of 1 … `items`."""
    losses: dict[Loss, LossFunction] = {
        "sampled-softmax": sampled_softmax,
        "cross-entropy": cross_entropy,
        "bce": bce,
        "gbce": partial(gbce, calibration=config.calibration, others=items - 1),
    }
    return losses[config.loss]


def bce(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """Binary cross-entropy, LLMSeR Eq. 7: -log σ(s⁺) - Σ_k log(1 - σ(s⁻_k)), with (P, K) negatives per position.

    Scores are taken from log K on (see `_binary`), which is 0 for the paper's one negative.
    """
    return _binary(states, positives, negatives, table, 1.0)


def gbce(
    states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor, *, calibration: float, others: int
) -> Tensor:
    """Generalised BCE (Petrov and Macdonald, gSASRec, RecSys 2023): -log σ(s⁺)^β - Σ_k log(1 - σ(s⁻_k)).

    With K of the I - 1 other items drawn, α = K / (I - 1) and β = α · (t · (1 - 1/α) + 1/α), which is 1 - t · (1 - α):
    t = 0 is BCE, t = 1 undoes the overconfidence that sampling brings. As -log σ(s)^β = β · softplus(-s), nothing
    overflows and no probability is formed. Like BCE's it is a sum over the K, where the paper divides by K + 1: the
    same to Adam. Scores are taken from log(K/β) on (see `_binary`).

    Args:
        calibration: t, 0 … 1.
        others: I - 1.
    """
    share = min(1.0, negatives.items.shape[1] / max(1, others))  # α
    return _binary(states, positives, negatives, table, 1 - calibration * (1 - share))


def sampled_softmax(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / (e^{s⁺} + Σ_k w_k e^{s_k}) ) over shared (K,) negatives, less the one that is the positive.

    w_k makes the sum an unbiased estimate of the softmax's partition function (see `negatives`), so the positive,
    which is in it with certainty, has weight 1. With the whole catalogue as negatives this is full cross-entropy.
    """
    assert negatives.log_weight is not None, "sampled softmax takes shared negatives"
    column = torch.searchsorted(negatives.items, positives).clamp(max=len(negatives.items) - 1)
    row = torch.nonzero(negatives.items[column] == positives)[:, 0]
    others = pick(table, negatives.items)
    partition = _log_partition(states, others, negatives.log_weight, row, column[row])
    return F.softplus(partition - _scores_of(positives, states, table))


def cross_entropy(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / Σ_j e^{s_j} ) over all I items, whatever `negatives` are.

    It fits whatever P and I are: where P · I scores are too many to hold, positions go in chunks, whose scores are
    computed again for the gradient instead of kept. That is one product of matrices more for the usual three.
    """
    del negatives
    every = table[1:]
    at_once = max(1, (SCORES_CUDA if devices.on_gpu(table) else SCORES) // len(every))
    if len(states) > at_once:
        partition = _chunked_log_partition(states, every, at_once)
    else:
        level = torch.zeros(len(every), dtype=table.dtype, device=table.device)
        nothing = torch.zeros(0, dtype=torch.long, device=table.device)
        partition = _log_partition(states, every, level, nothing, nothing)
    return partition - _scores_of(positives, states, table)


def _scores_of(items: Tensor, states: Tensor, table: Tensor) -> Tensor:
    """(P,) score of one item per position."""
    return own_scores(states, items[:, None], table)[:, 0]


def _binary(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor, power: float) -> Tensor:
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
    """`_binary` and its slope by every score in one pass."""

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


class _LogPartition(torch.autograd.Function):
    """log Σ_k w_k e^{s_k} of every position, over one (P, K) buffer where autograd would fill five.

    On a CPU a stretch of positions goes through all operations before the next does: their scores stay in cache.
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


_log_partition: Callable[..., Tensor] = _LogPartition.apply


def _at_once(scores: Tensor) -> int:
    """How many positions' scores (P, K) to work on together."""
    return max(1, len(scores)) if devices.on_gpu(scores) else max(FEWEST, IN_CACHE // scores.shape[1])


class _ChunkedLogPartition(torch.autograd.Function):
    """log Σ_j e^{s_j} of every position, over a buffer of `at_once` positions; the gradient computes scores again."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, every: Tensor, at_once: int) -> Tensor:
        partition = torch.empty_like(states[:, 0])
        for start in range(0, len(states), at_once):
            chunk = slice(start, start + at_once)
            scores = states[chunk] @ every.T
            most = scores.amax(1, keepdim=True)
            partition[chunk] = scores.sub_(most).exp_().sum(1).log_().add_(most[:, 0])
        ctx.save_for_backward(states, every, partition)
        ctx.at_once = at_once
        return partition

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, every, partition = ctx.saved_tensors
        of_states, of_every = torch.empty_like(states), torch.zeros_like(every)
        for start in range(0, len(states), ctx.at_once):
            chunk = slice(start, start + ctx.at_once)
            weights = torch.addmm(-partition[chunk, None], states[chunk], every.T).exp_()
            share = gradients[0][chunk, None]
            of_states[chunk] = (weights @ every) * share
            of_every.addmm_(weights.T, states[chunk] * share)
        return of_states, of_every, None


_chunked_log_partition: Callable[..., Tensor] = _ChunkedLogPartition.apply
