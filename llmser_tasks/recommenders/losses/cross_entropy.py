"""Full cross-entropy: the softmax over the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Loss
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders import negatives as drawn
from llmser_tasks.recommenders.losses import LossFunction
from llmser_tasks.recommenders.losses.partition import log_partition, scores_of
from llmser_tasks.recommenders.negatives import Negatives

DECLARED = Loss(title="cross-entropy", place=2, negatives=0, shared=False)

SCORES = 1 << 26  # scores held at once: 256 MB of floats …
SCORES_CUDA = 1 << 28  # … and 1 GB on a GPU

make_sampler = drawn.whole


def make_loss(config: Recommender, items: int) -> LossFunction:
    del config, items
    return cross_entropy


def cross_entropy(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / Σ_j e^{s_j} ) over all I items, whatever `negatives` are.

    It fits in memory whatever P and I are: if P · I scores are too many to hold, positions go in chunks, whose scores
    are computed again for the gradient instead of kept. That makes four matrix products instead of the usual three.
    """
    del negatives
    every = table[1:]
    at_once = max(1, (SCORES_CUDA if devices.on_gpu(table) else SCORES) // len(every))
    if len(states) > at_once:
        partition = _chunked_log_partition(states, every, at_once)
    else:
        level = torch.zeros(len(every), dtype=table.dtype, device=table.device)
        nothing = torch.zeros(0, dtype=torch.long, device=table.device)
        partition = log_partition(states, every, level, nothing, nothing)
    return partition - scores_of(positives, states, table)


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
