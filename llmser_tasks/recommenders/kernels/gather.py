"""Rows of a table, and what their gradients add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled


def pick(table: Tensor, rows: Tensor) -> Tensor:
    """table (R, d), rows (…) → (…, d). As `F.embedding`, whose gradient sorts the rows on a CPU before it adds."""
    if devices.on_gpu(table):
        return F.embedding(rows, table)
    return _picked(table, rows)


def pick_distinct(table: Tensor, rows: Tensor) -> Tensor:
    """Ascending distinct rows (R,) → (R, d). The gradient is sparse and holds these; row 0 is padding and has none."""
    return _picked_distinct(table, rows)


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = len(table)
        return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        of_table = gradients[0].new_zeros(ctx.count, gradients[0].shape[-1])
        _add_rows(array(rows).ravel(), array(gradients[0].flatten(0, -2)), array(of_table))
        return of_table, None


_picked: Callable[..., Tensor] = _Picked.apply


@compiled
def _add_rows(rows: Ints, values: Floats, total: Floats) -> None:
    for place in range(len(rows)):
        value, into = values[place], total[rows[place]]
        for c in range(len(value)):
            into[c] += value[c]


class _PickedDistinct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = table.shape
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        values = gradients[0].contiguous()  # part of a wider vector's gradient is not, and loops over it are slow
        if devices.on_gpu(values) or int(rows[0]) == 0:
            values = values.masked_fill((rows == 0)[:, None], 0.0)
        gradient = torch.sparse_coo_tensor(rows[None], values, ctx.shape, check_invariants=False, is_coalesced=True)
        return gradient, None


_picked_distinct: Callable[..., Tensor] = _PickedDistinct.apply
