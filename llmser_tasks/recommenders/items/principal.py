"""Principal components of items' vectors, as rows that a table begins with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PrincipalComponents(nn.Module):
    """The leading components of vectors, centred, neither whitened nor rescaled.

    They are part of a model's state: a later training, whose catalogue has other axes, finds its new items where the
    earlier one would have put them.

    Attributes:
        mean: (D,) of the vectors that it was fitted to.
        axes: (d, D) of unit length, most variance first; zeros where D is below d.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(given))
        self.register_buffer("axes", torch.zeros(width, given))

    def fit(self, vectors: Tensor) -> None:
        """To vectors (R, D), of which rows of zeros (padding, items that nothing is known of) do not count. An axis's
        largest coordinate is positive: its sign is otherwise up to the library.
        """
        known = vectors[vectors.any(1)]
        mean = known.sum(0, dtype=torch.float64) / max(1, len(known))
        scatter = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64, device=vectors.device)
        for part in torch.split(known, 1 << 13):
            centred = part - mean
            scatter.addmm_(centred.T, centred)
        axes = torch.linalg.eigh(scatter)[1].T.flip(0)[: len(self.axes)]
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.axes.zero_()[: len(axes)] = axes * largest.sign()

    def forward(self, vectors: Tensor) -> Tensor:
        """(R, D) → (R, d)."""
        return (vectors - self.mean) @ self.axes.T
