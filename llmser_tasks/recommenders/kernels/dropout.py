"""Dropout that is not the slowest part of a training on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels import token_loops as loops
from llmser_tasks.recommenders.kernels.compiled import array


class Dropout(nn.Module):
    """As `torch.nn.Dropout`, for values (T, d). On a CPU a hash of key and place decides (see `token_loops`)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if devices.on_gpu(x):
            return F.dropout(x, self.probability)
        return _dropped(x, new_key(), self.probability)


def new_key() -> int:
    """Drawn from torch's global generator, so that it follows from the training's seed."""
    return int(torch.randint(1 << 32, ()))


def limits(probability: float) -> tuple[int, float]:
    """Of 32 random bits those below the first number mean "dropped"; what is kept is multiplied by the second."""
    dropped = round(probability * (1 << 32))
    return dropped, (1 << 32) / ((1 << 32) - dropped)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, key: int, probability: float) -> Tensor:
        ctx.key, ctx.keep = key, limits(probability)
        return _drop(x, ctx.key, ctx.keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _drop(gradients[0], ctx.key, ctx.keep), None, None


_dropped: Callable[..., Tensor] = _Dropped.apply


def _drop(x: Tensor, key: int, keep: tuple[int, float]) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    loops.drop(array(x), key, *keep, array(out), array(x.new_zeros(x.shape[1])))
    return out
