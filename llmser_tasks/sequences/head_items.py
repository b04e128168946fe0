"""Which items count as head: those that people choose most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAD_ITEMS = 0.2  # the share of the catalogue that counts as head


def head_items(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(I + 1,) whether an item is among the top 20 % by training count; equal counts by item id, never with 0.

    Args:
        counts: (I + 1,) training interactions of every item; entry 0 is padding.
    """
    items = len(counts) - 1
    best = np.argsort(-counts[1:], kind="stable")[: round(HEAD_ITEMS * items)] + 1
    head = np.zeros(items + 1, bool)
    head[best] = True
    return head & (counts > 0)
