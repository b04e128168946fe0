"""What counters share: methods that learn nothing, and that every model has to beat.

A counter's file has `rank`. Ranks follow the rules of the trained models: the history is excluded, the target never is,
and every other item with the same score stands before it, so a target that a counter knows nothing about comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.sequences.histories import Histories

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Test:
    """What a counter is asked.

    Attributes:
        training: S_u of all training users, all that it may count.
        items: I.
        contexts: (U) what each test user has had, which is excluded.
        targets: (U,)
        negatives: per seed (U, n), 0 where there is none.
        folders: of the artefacts that the counter needs, by name.
    """

    training: Histories
    items: int
    contexts: Histories
    targets: Ints
    negatives: dict[int, Ints]
    folders: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Counted:
    """(U,) ranks of the targets: among all items, and per seed among its negatives."""

    full: Ints
    sampled: dict[int, Ints]


def distinct(contexts: Histories) -> tuple[NDArray[np.int64], Ints]:
    """Row and item of every context entry, each pair once."""
    rows = np.repeat(np.arange(len(contexts)), contexts.lengths)
    order = np.lexsort((contexts.items, rows))
    rows, seen = rows[order], contexts.items[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (seen[1:] != seen[:-1])
    return rows[fresh], seen[fresh]
