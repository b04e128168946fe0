"""Which users are counted together: tail and head users, tail and head items, users of one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.sequences.head_items import head_items

Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

COLD = "cold items"
LENGTHS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 9), (10, None))


def groups(n: NDArray[np.int64], targets: Ints, counts: NDArray[np.int64], tail_threshold: int) -> dict[str, Mask]:
    """Every non-empty group as a mask over the evaluated users.

    Tail users have n_u ≤ T. A target is a head item when it is one of the 20 % of the catalogue's items with the most
    training interactions; cold items, a part of the tail, have none. Groups by length divide the users by n_u.

    Args:
        n: (U,) n_u, length of the training history: the validation and test items do not count.
        targets: (U,) held-out items.
        counts: (I + 1,) training interactions of every item; entry 0 is padding.
    """
    tail = n <= tail_threshold
    head_item = head_items(counts)[targets]
    found = {
        "all": np.ones(len(n), bool),
        "tail users": tail,
        "head users": ~tail,
        "tail items": ~head_item,
        "head items": head_item,
        COLD: counts[targets] == 0,
    }
    for low, high in LENGTHS:
        found[_label(low, high)] = (n >= low) & (n <= (high if high is not None else n))
    return {name: users for name, users in found.items() if users.any()}


def _label(low: int, high: int | None) -> str:
    if high is None:
        return f"n≥{low}"
    return f"n={low}" if low == high else f"n={low}–{high}"
