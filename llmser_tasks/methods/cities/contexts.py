"""What stands around items in training histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.sequences.histories import Histories, ranges

REACH = 24  # items to either side
AT_ONCE = 1 << 14  # windows looked at together

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """N windows of up to 2 REACH items, padded on the right.

    Attributes:
        items: (N, L) ids, 0 where a window is over.
        places: (N, L) where each stands: 0 … REACH - 1 before the item, then as many behind it.
    """

    items: Numbers
    places: Numbers


@dataclass(frozen=True)
class Contexts:
    """Where items stand that have another item near.

    Attributes:
        where: (P,) places among all histories' items, by item.
        first, count: (I + 1,) the first of an item's places, and how many it has.
    """

    histories: Histories
    where: Numbers
    first: Numbers
    count: Numbers

    @classmethod
    def of(cls, histories: Histories, items: int) -> Contexts:
        """
        Args:
            items: I.
        """
        every = np.arange(len(histories.items))
        there = [
            _window(histories, every[start : start + AT_ONCE])[1].any(1) for start in range(0, len(every), AT_ONCE)
        ]
        where = every[np.concatenate(there)] if there else every
        where = where[np.argsort(histories.items[where], kind="stable")]
        count = np.bincount(histories.items[where], minlength=items + 1)
        return cls(histories, where, np.cumsum(count) - count, count)

    def some(self, items: Numbers, many: Numbers, random: np.random.Generator | None = None) -> tuple[Windows, Numbers]:
        """
        Args:
            items: (n,) that have contexts.
            many: (n,) how many of each item's to take, at least 1; fewer where there are no more.
            random: draws them without replacement; None: those that are spread evenly over all.

        Returns:
            The windows, and (N,) which of `items` each is about, ascending.
        """
        count = self.count[items]
        many = np.minimum(many, count)
        of_item = np.repeat(np.arange(len(items)), many)
        nth = ranges(np.zeros(len(items), np.int64), many)
        if random is None:
            chosen = self.first[items][of_item] + nth * count[of_item] // many[of_item]
        else:
            every, owner = ranges(self.first[items], count), np.repeat(np.arange(len(items)), count)
            shuffled = every[np.lexsort((random.random(len(every)), owner))]
            chosen = shuffled[(np.cumsum(count) - count)[of_item] + nth]
        return self._windows(self.where[chosen]), of_item

    def _windows(self, where: Numbers) -> Windows:
        items, known = _window(self.histories, where)
        longest = max(1, int(known.sum(1).max(initial=0)))
        order = np.argsort(~known, axis=1, kind="stable")[:, :longest]
        return Windows(np.take_along_axis(np.where(known, items, 0), order, 1), order)


def _window(histories: Histories, where: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """(N, 2 REACH) items around these places, and which of them are the same user's and not the item itself: it is
    masked wherever it stands, for it would tell what it is.
    """
    row = np.searchsorted(histories.offsets, where, side="right") - 1
    steps = np.concatenate([np.arange(-REACH, 0), np.arange(1, REACH + 1)])
    at = where[:, None] + steps
    inside = (at >= histories.offsets[row][:, None]) & (at < histories.offsets[row + 1][:, None])
    items = histories.items[np.where(inside, at, 0)].astype(np.int64)
    return items, inside & (items != histories.items[where][:, None])
