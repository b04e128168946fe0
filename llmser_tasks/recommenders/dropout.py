"""Dropout that is not the slowest operation of a training on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """As `torch.nn.Dropout`. On a CPU uniform floats are drawn instead of Bernoulli ones: 4 × fewer seconds."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.probability)
        kept = torch.rand_like(x).ge_(self.probability).mul_(1 / (1 - self.probability))
        return x * kept
