"""What a model starts from: scaled vectors of items, with those of positions, dropped out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels import token_loops as loops
from llmser_tasks.recommenders.kernels.compiled import array
from llmser_tasks.recommenders.kernels.dropout import Dropout, limits, new_key


def embed(table: Tensor, rows: Tensor, positions: Tensor, places: Tensor, dropout: Dropout) -> Tensor:
    """dropout(√d · table[rows] + positions[places]), for table (R, d), positions (N, d), rows and places (T,).

    Raises:
        IndexError: a row is not in the table; loops would read whatever is there.
    """
    scale = math.sqrt(table.shape[1])
    if devices.on_gpu(table):
        embedded: Tensor = dropout(F.embedding(rows, table) * scale + F.embedding(places, positions))
        return embedded
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(table)):
        raise IndexError(f"Rows {int(rows.min())} to {int(rows.max())} of a table of {len(table)} were asked for.")
    probability = dropout.probability if dropout.training else 0.0
    return _embedded(table, rows, positions, places, scale, probability)


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, positions: Tensor, places: Tensor, scale: float, probability: float
    ) -> Tensor:
        ctx.save_for_backward(rows, places)
        ctx.sizes, ctx.scale = (len(table), len(positions)), scale
        ctx.key, ctx.keep = new_key() if probability else 0, limits(probability)
        out = table.new_empty(len(rows), table.shape[1])
        given = (array(table), array(rows), array(positions), array(places))
        loops.embed(*given, scale, ctx.key, *limits(probability), array(out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, places = ctx.saved_tensors
        of_table, of_positions = (gradients[0].new_zeros(size, gradients[0].shape[1]) for size in ctx.sizes)
        given = (array(gradients[0]), array(rows), array(places))
        limit, keep_scale = ctx.keep
        loops.embed_backward(*given, ctx.scale, ctx.key, limit, keep_scale, array(of_table), array(of_positions))
        return of_table, None, of_positions, None, None, None


_embedded: Callable[..., Tensor] = _Embedded.apply
