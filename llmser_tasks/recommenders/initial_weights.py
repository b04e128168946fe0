"""The random weights that a model begins with."""

from __future__ import annotations

import torch
from torch import nn


def draw_weights(module: nn.Module, deviation: float) -> None:
    """Normal weights, zero biases, unit norms, for a module and all in it; the padding row stays zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=deviation)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            with torch.no_grad():
                part.weight[part.padding_idx].zero_()
