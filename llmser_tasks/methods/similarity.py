"""How close the titles of all items (their texts, where these say more) are to those of a user's history: cosines, a
few users at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors

COSINES = 1 << 25  # held at once: 128 MB, some 300 users and 10⁵ titles
USERS_AT_ONCE = 4096

Floats = NDArray[np.float32]
Weights = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # of the k-th item from the end


@dataclass(frozen=True)
class Titles:
    """Every distinct title once: items that share one have the very same cosine, whatever the order of sums.

    Attributes:
        vectors: (T, d).
        of: (I + 1,) each item's title; -1: it has none.
    """

    vectors: Floats
    of: NDArray[np.int64]

    @classmethod
    def distinct(cls, items: ItemVectors) -> Titles:
        rows = np.flatnonzero(items.titled)
        numbers: dict[bytes, int] = {}
        of = np.full(len(items.titled), -1)
        of[rows] = [numbers.setdefault(items.vectors[row].tobytes(), len(numbers)) for row in rows]
        vectors = np.zeros((max(1, len(numbers)), items.vectors.shape[1]), np.float32)
        vectors[of[rows]] = items.vectors[rows]
        return cls(vectors, of)

    @property
    def copies(self) -> Floats:
        """(T,) how many items share each title."""
        return np.bincount(self.of[self.of >= 0], minlength=len(self.vectors)).astype(np.float32)


@dataclass(frozen=True)
class Near:
    """A few users' cosines.

    Attributes:
        rows: the users' rows among all contexts.
        cosines: (users, T) of every title to the weighted mean of the history's titles.
        known: (users,) whether the history has a title that counts; if not, all cosines are 0.
    """

    rows: slice
    cosines: Floats
    known: NDArray[np.bool_]


def near(contexts: Histories, titles: Titles, weights: Weights) -> Iterator[Near]:
    """Cosines for all users, a few at a time.

    Args:
        weights: given k = 1, 2, … of items from the end of a history, what each counts.
    """
    step = int(np.clip(COSINES // max(1, len(titles.vectors)), 1, USERS_AT_ONCE))
    everything = torch.from_numpy(titles.vectors.T)
    for first in range(0, len(contexts), step):
        rows = slice(first, min(first + step, len(contexts)))
        part = contexts.select(np.arange(rows.start, rows.stop))
        owner = np.repeat(np.arange(len(part)), part.lengths)
        counted = weights(part.offsets[1:][owner] - np.arange(len(part.items)))
        use = (titles.of[part.items] >= 0) & (counted > 0)
        where = (owner[use], titles.of[part.items][use])
        means = sp.csr_matrix((counted[use], where), shape=(len(part), len(titles.vectors))) @ titles.vectors
        length = np.linalg.norm(means, axis=1, keepdims=True)
        unit = (means / np.where(length > 0, length, 1)).astype(np.float32)
        with pinned_threads():  # the order of float sums depends on their number
            cosines = (torch.from_numpy(unit) @ everything).numpy()
        yield Near(rows, cosines, np.bincount(where[0], minlength=len(part)) > 0)
