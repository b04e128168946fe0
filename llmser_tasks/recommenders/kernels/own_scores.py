"""Scores of each position's own few items, without the embeddings of all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled

GATHERED = 1 << 26  # floats of items' embeddings gathered at once on a GPU: 256 MB


def own_scores(states: Tensor, items: Tensor, table: Tensor) -> Tensor:
    """(P, K) dot products of states (P, d) with the table's rows `items` (P, K)."""
    return (on_gpu if devices.on_gpu(states) else _on_cpu)(states, items, table)


class _OnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(states, items, table)
        scores = states.new_empty(items.shape)
        _score(array(states), array(items), array(table), array(scores))
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, items, table = ctx.saved_tensors
        of_states, of_table = own_scores_backward(states, items, table, gradients[0])
        return of_states, None, of_table


_on_cpu: Callable[..., Tensor] = _OnCpu.apply


def own_scores_backward(states: Tensor, items: Tensor, table: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of states and table from that of the scores (P, K), on a CPU."""
    of_states, of_table = torch.empty_like(states), torch.zeros_like(table)
    _score_backward(array(states), array(items), array(table), array(gradient), array(of_states), array(of_table))
    return of_states, of_table


@compiled
def _score(states: Floats, items: Ints, table: Floats, scores: Floats) -> None:
    for place in range(len(items)):
        state = states[place]
        for k in range(items.shape[1]):
            item = table[items[place, k]]
            score = states.dtype.type(0)
            for c in range(len(state)):
                score += state[c] * item[c]
            scores[place, k] = score


@compiled
def _score_backward(
    states: Floats, items: Ints, table: Floats, gradient: Floats, of_states: Floats, of_table: Floats
) -> None:
    """Fills `of_states`, adds to `of_table`."""
    for place in range(len(items)):
        state, of_state = states[place], of_states[place]
        for c in range(len(state)):
            of_state[c] = 0
        for k in range(items.shape[1]):
            share = gradient[place, k]
            item, of_item = table[items[place, k]], of_table[items[place, k]]
            for c in range(len(state)):
                of_state[c] += share * item[c]
            for c in range(len(state)):
                of_item[c] += share * state[c]


class _OnGpu(torch.autograd.Function):
    """Both gradients are weighted sums of rows, which `embedding_bag` adds up."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(states, items, table)
        at_once = max(1, GATHERED // (items.shape[1] * table.shape[1]))
        scores = torch.empty(items.shape, dtype=states.dtype, device=states.device)
        for start in range(0, len(states), at_once):
            chunk = slice(start, start + at_once)
            scores[chunk] = torch.bmm(F.embedding(items[chunk], table), states[chunk, :, None])[:, :, 0]
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, items, table = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_states = F.embedding_bag(items, table, per_sample_weights=gradient, mode="sum")
        by_item = items.flatten().argsort(stable=True)  # one bag of positions per item
        ends = torch.bincount(items.flatten(), minlength=len(table)).cumsum(0)
        starts = F.pad(ends[:-1], (1, 0))
        shares = gradient.flatten()[by_item]
        of_table = F.embedding_bag(by_item // items.shape[1], states, starts, per_sample_weights=shares, mode="sum")
        return of_states, None, of_table


on_gpu: Callable[..., Tensor] = _OnGpu.apply
