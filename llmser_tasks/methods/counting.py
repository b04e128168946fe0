"""What counters share: methods that learn nothing, and that every model has to beat.

A counter's file has `rank`. Ranks follow the rules of the trained models: the history is excluded, the target never is,
and every other item with the same score ranks before it, so a target about which a counter knows nothing comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from llmser_tasks.core.progress import Progress
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
        folders: those of the artefacts that the counter needs, by name.
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


def ranked(test: Test, scores: Iterable[tuple[slice, sp.csr_matrix]], what: str, progress: Progress) -> Counted:
    """Ranks by sparse scores (users, I + 1) of a few users at a time: what is stored is > 0, what is not stored is 0.

    Args:
        scores: of the test's users, in order, with no entry twice.
    """
    contexts, targets, negatives = test.contexts, test.targets, test.negatives
    full = np.empty(len(targets), np.int32)
    sampled = {seed: np.empty(len(targets), np.int32) for seed in negatives}
    for chunk, of_chunk in scores:
        wanted, rows = targets[chunk], np.arange(of_chunk.shape[0])
        target_score = _at(of_chunk, rows[:, None], wanted[:, None])[:, 0]
        owners = np.repeat(rows, np.diff(of_chunk.indptr))
        before = np.bincount(owners[of_chunk.data >= target_score[owners]], minlength=len(rows))
        before[target_score == 0] = test.items  # a target about which nothing is known ties with all the others
        before -= 1  # the target itself
        owner, seen = distinct(contexts.select(np.arange(chunk.start, chunk.stop)))
        known = seen != wanted[owner]
        owner, seen = owner[known], seen[known]
        excluded = _at(of_chunk, owner[:, None], seen[:, None])[:, 0] >= target_score[owner]
        full[chunk] = 1 + before - np.bincount(owner[excluded], minlength=len(rows))
        for seed, drawn in negatives.items():
            tied = _at(of_chunk, rows[:, None], drawn[chunk]) >= target_score[:, None]
            sampled[seed][chunk] = 1 + (tied & (drawn[chunk] > 0)).sum(axis=1)
        progress(chunk.stop, len(targets), "users", what)
    return Counted(full, sampled)


def _at(scores: sp.csr_matrix, rows: NDArray[np.int64], items: Ints) -> NDArray[np.float64]:
    """Scores at (row, item), shaped like `items`."""
    picked = scores[np.broadcast_to(rows, items.shape).ravel(), items.ravel()]
    return np.asarray(picked, np.float64).reshape(items.shape)
