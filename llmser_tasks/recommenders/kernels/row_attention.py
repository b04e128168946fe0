"""Attention of each row's tokens to one another, for rows that follow one another without padding; on a CPU.

Nothing is padded, masked or copied, and only one number per token and head is kept for the gradient (as in
FlashAttention, Dao et al., 2022: the gradient computes the weights again).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled


def attend_rows(projected: Tensor, start: Tensor, lengths: Tensor, heads: int, causal: bool, slope: float) -> Tensor:
    """softmax(q kᵀ / √w - slope · distance) v within each row and head.

    Args:
        projected: (T, 3d) queries, keys and values, each (heads, w) with w = d / heads.
        start: (B,) place of each row's first token; its `lengths` tokens follow. Every place belongs to a row.
        causal: a token looks at itself and at what is before it, not at what comes after.

    Returns:
        (T, d)
    """
    return _row_attention(projected, start, lengths, heads, causal, slope)


class _RowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, start: Tensor, lengths: Tensor, heads: int, causal: bool, slope: float
    ) -> Tensor:
        out = projected.new_empty(len(projected), projected.shape[1] // 3)
        level = projected.new_empty(len(projected), heads)
        _attend(array(projected), array(start), array(lengths), causal, slope, array(out), array(level))
        ctx.save_for_backward(projected, start, lengths, out, level)
        ctx.causal, ctx.slope = causal, slope
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        projected, start, lengths, out, level = ctx.saved_tensors
        of_projected = torch.empty_like(projected)
        _attend_backward(
            array(projected),
            array(start),
            array(lengths),
            ctx.causal,
            ctx.slope,
            array(out),
            array(level),
            array(gradients[0]),
            array(of_projected),
        )
        return of_projected, None, None, None, None, None


_row_attention: Callable[..., Tensor] = _RowAttention.apply


@compiled
def _attend(
    projected: Floats, start: Ints, lengths: Ints, causal: bool, slope: float, out: Floats, level: Floats
) -> None:
    """Fills `out` and level (T, heads), the logarithm of each softmax's denominator."""
    dimension, heads = out.shape[1], level.shape[1]
    width = dimension // heads
    scale, fall = projected.dtype.type(1 / math.sqrt(width)), projected.dtype.type(slope)
    weights = np.empty(lengths.max() if len(lengths) else 0, projected.dtype)
    for row in range(len(start)):
        first, length = start[row], lengths[row]
        for head in range(heads):
            queries, keys = head * width, dimension + head * width
            values = dimension + keys
            for at in range(length):
                query = projected[first + at, queries : queries + width]
                seen = at + 1 if causal else length
                most = projected.dtype.type(-np.inf)
                for other in range(seen):
                    key = projected[first + other, keys : keys + width]
                    score = projected.dtype.type(0)
                    for c in range(width):
                        score += query[c] * key[c]
                    score = score * scale - fall * projected.dtype.type(abs(at - other))
                    weights[other] = score
                    most = max(most, score)
                total = projected.dtype.type(0)
                for other in range(seen):
                    weights[other] = math.exp(weights[other] - most)
                    total += weights[other]
                level[first + at, head] = most + projected.dtype.type(math.log(total))
                attended = out[first + at, queries : queries + width]
                for c in range(width):
                    attended[c] = 0
                for other in range(seen):
                    weight = weights[other] / total
                    value = projected[first + other, values : values + width]
                    for c in range(width):
                        attended[c] += weight * value[c]


@compiled
def _attend_backward(
    projected: Floats,
    start: Ints,
    lengths: Ints,
    causal: bool,
    slope: float,
    out: Floats,
    level: Floats,
    gradient: Floats,
    of_projected: Floats,
) -> None:
    """Fills `of_projected`."""
    dimension, heads = out.shape[1], level.shape[1]
    width = dimension // heads
    scale, fall = projected.dtype.type(1 / math.sqrt(width)), projected.dtype.type(slope)
    for row in range(len(start)):
        first, length = start[row], lengths[row]
        for at in range(length):
            of_token = of_projected[first + at]
            for c in range(3 * dimension):
                of_token[c] = 0
        for head in range(heads):
            queries, keys = head * width, dimension + head * width
            values = dimension + keys
            for at in range(length):
                query = projected[first + at, queries : queries + width]
                of_query = of_projected[first + at, queries : queries + width]
                attended = out[first + at, queries : queries + width]
                incoming = gradient[first + at, queries : queries + width]
                mean = projected.dtype.type(0)  # of the weights' gradients, by these weights
                for c in range(width):
                    mean += incoming[c] * attended[c]
                for other in range(at + 1 if causal else length):
                    key = projected[first + other, keys : keys + width]
                    value = projected[first + other, values : values + width]
                    score, of_weight = projected.dtype.type(0), projected.dtype.type(0)
                    for c in range(width):
                        score += query[c] * key[c]
                        of_weight += incoming[c] * value[c]
                    score = score * scale - fall * projected.dtype.type(abs(at - other))
                    weight = projected.dtype.type(math.exp(score - level[first + at, head]))
                    of_score = weight * (of_weight - mean) * scale
                    of_key = of_projected[first + other, keys : keys + width]
                    of_value = of_projected[first + other, values : values + width]
                    for c in range(width):
                        of_query[c] += of_score * key[c]
                        of_key[c] += of_score * query[c]
                        of_value[c] += weight * incoming[c]
