"""How near every item is to what a user has: the largest nearness to the text of one of the latest items, of which the
k-th from the end counts 1 / √k."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.recommenders.kernels.nearest import Lists, Own, nearest_in_tile, nearest_of
from llmser_tasks.sequences.histories import Histories, ranges

LATEST = 50  # items of a history that count: the last of them for a seventh


@dataclass(frozen=True)
class NearHistory:
    """What is added to the scores of users (`recommenders.Added`).

    Attributes:
        known: on the device of the model.
        offsets: (U + 1,) where each user's items begin and end in the next two.
        texts: (M,) the text of each.
        weights: (M,) float32.
        gamma: (U,) float32 factor of each user.
    """

    known: Lists
    offsets: NDArray[np.int64]
    texts: NDArray[np.int64]
    weights: NDArray[np.float32]
    gamma: NDArray[np.float32]

    @classmethod
    def to(cls, owned: Histories, near: NearTexts, device: torch.device) -> NearHistory:
        """Of users who own these items, each with the factor 1."""
        owner = np.repeat(np.arange(len(owned)), owned.lengths)
        from_end = owned.offsets[1:][owner] - np.arange(len(owned.items))
        texts = near.of[owned.items].astype(np.int64)
        use = (texts >= 0) & (from_end <= LATEST)
        lengths = np.bincount(owner[use], minlength=len(owned))
        weights = (1 / np.sqrt(from_end[use])).astype(np.float32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(near.lists.to(device), offsets, texts[use], weights, np.ones(len(owned), np.float32))

    def times(self, gamma: NDArray[np.float32]) -> NearHistory:
        return replace(self, gamma=gamma)

    def tile(self, rows: NDArray[np.int64], first: int, last: int) -> Tensor:
        return nearest_in_tile(self._own(rows), self.known, first, last).mul_(self._gamma(rows))

    def of(self, rows: NDArray[np.int64], candidates: Tensor) -> Tensor:
        return nearest_of(self._own(rows), self.known, candidates).mul_(self._gamma(rows))

    def _own(self, rows: NDArray[np.int64]) -> Own:
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        places = ranges(self.offsets[rows], lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Own(*(self._there(part) for part in (starts, self.texts[places], self.weights[places])))

    def _gamma(self, rows: NDArray[np.int64]) -> Tensor:
        return self._there(self.gamma[rows])[:, None]

    def _there(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.known.ids.device)
