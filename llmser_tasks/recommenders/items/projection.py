"""Principal components of items' vectors: what text says of items, in as few numbers as a backbone reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmser_tasks.core.errors import InputError

AT_ONCE = 1 << 13  # vectors added up in double precision at a time
SAME = 1e-12  # of a vector's square: what rounding leaves of the variance of equal ones
NEGLIGIBLE = 1e-6  # of the first component's variance; directions below are noise, which whitening would blow up


class Projection(nn.Module):
    """A fixed map of vectors (N, D) onto their first principal components (N, k), centred, and scaled if wanted.

    It is part of a model's state: a later training projects the texts of new items onto the same directions, whatever
    directions its own catalogue would give.

    Attributes:
        mean: (D,) of the vectors that it was fitted to.
        directions: (D, k), most variance first, scaled; zeros where the vectors have fewer dimensions than k.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, given: int, width: int) -> None:
        """
        Args:
            given: D.
            width: k.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(given))
        self.register_buffer("directions", torch.zeros(given, width))

    def fit(self, vectors: Tensor, deviation: float | None, *, whiten: bool = False) -> None:
        """
        Args:
            vectors: (N, D); rows of zeros have no text and do not count.
            deviation: of a column: of each if they are whitened, else their mean, under one scale for all. None: as
                the components are.

        Raises:
            InputError: a number is not finite, or there are no two different texts.
        """
        with_text = vectors[vectors.any(1)]
        mean, covariance = moments(with_text)
        if not bool(torch.isfinite(covariance).all()):
            raise InputError("The vectors of items hold numbers that are not finite; embed their texts anew.")
        variances, directions = torch.linalg.eigh(covariance)
        variances, directions = variances.flip(0)[: self.width], directions.flip(1)[:, : self.width]
        if variances[0] <= SAME * mean.square().sum():
            raise InputError(
                f"{len(with_text)} of the items have a text, and no two different ones; an item table that starts from "
                "texts needs some: choose the usual one."
            )
        kept = variances > NEGLIGIBLE * variances[0]
        deviations = variances[kept].sqrt()
        directions = directions[:, kept] * signs(directions[:, kept])
        if deviation is not None:
            directions *= deviation / (deviations if whiten else deviations.mean())
        self.mean.copy_(mean)
        self.directions.zero_()[:, : directions.shape[1]] = directions

    @property
    def width(self) -> int:
        return self.directions.shape[1]

    @property
    def rank(self) -> int:
        """How many of the columns say something."""
        return int(self.directions.any(0).sum())

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, k) components; zeros of what has no text."""
        projected = torch.addmm(-(self.mean @ self.directions), vectors, self.directions)
        return projected.masked_fill_(~vectors.any(1)[:, None], 0.0)


def moments(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of vectors (N, D), in double precision and bounded memory."""
    count = max(1, len(vectors))
    mean = vectors.sum(0, dtype=torch.float64) / count
    covariance = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for part in torch.split(vectors, AT_ONCE):
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / count


def signs(directions: Tensor) -> Tensor:
    """(k,) what makes the largest coordinate of each direction positive: its sign is otherwise up to the library."""
    return directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()[0]
