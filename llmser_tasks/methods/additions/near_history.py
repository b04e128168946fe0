"""How near every item is to what a user has: the largest nearness to the text of one of the latest items, of which the
k-th from the end counts 1 / √k."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.recommenders.kernels.nearest import Lists, Own, nearest_in_tile, nearest_of
from llmser_tasks.sequences.histories import Histories, ranges

LATEST = 50  # items of a history that count: the last of them for a seventh


@dataclass(eq=False)
class NearHistory:
    """What is added to the scores of users (`recommenders.Added`).

    Attributes:
        known: on the device of the model.
        offsets: (U + 1,) where each user's items begin and end in the next two.
        texts: (M,) the text of each.
        weights: (M,) float32.
    """

    known: Lists
    offsets: NDArray[np.int64]
    texts: NDArray[np.int64]
    weights: NDArray[np.float32]
    _last: tuple[NDArray[np.int64], Own] | None = field(default=None, repr=False)  # rows, asked for tile after tile

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
        known = Lists(*(torch.from_numpy(part) for part in (near.starts, near.ids, near.nearness)))
        return cls(known.to(device), offsets, texts[use], weights)

    def times(self, gamma: NDArray[np.float32]) -> NearHistory:
        """The same, each user's with a factor (U,) of at least 0."""
        return replace(self, weights=self.weights * np.repeat(gamma, np.diff(self.offsets)), _last=None)

    def tile(self, rows: NDArray[np.int64], first: int, last: int) -> Tensor:
        return nearest_in_tile(self._own(rows), self.known, first, last)

    def of(self, rows: NDArray[np.int64], candidates: Tensor) -> Tensor:
        return nearest_of(self._own(rows), self.known, candidates)

    def _own(self, rows: NDArray[np.int64]) -> Own:
        if self._last is None or self._last[0] is not rows:
            lengths = self.offsets[rows + 1] - self.offsets[rows]
            places = ranges(self.offsets[rows], lengths)
            parts = np.concatenate([[0], np.cumsum(lengths)]), self.texts[places], self.weights[places]
            self._last = rows, Own(*(torch.from_numpy(part).to(self.known.ids.device) for part in parts))
        return self._last[1]
