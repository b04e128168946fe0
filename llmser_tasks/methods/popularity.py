"""The most popular items, the same for everybody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.counting import Counted, Ints, Test, distinct
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="popularity", place=1, charted=False, colour="fourth")


def rank(test: Test, progress: Progress = silent) -> Counted:
    del progress
    counts = test.training.counts(test.items)
    sampled = {seed: sampled_ranks(counts, test.targets, drawn) for seed, drawn in test.negatives.items()}
    return Counted(full_ranks(counts, test.contexts, test.targets), sampled)


def full_ranks(counts: NDArray[np.int64], contexts: Histories, targets: Ints) -> Ints:
    """(U,) full-ranking rank of each target by popularity.

    Items at least as popular as the target are counted once for all users; those in a user's context are subtracted.
    """
    ascending = np.sort(counts[1:])
    wanted = counts[targets]
    ranks = len(ascending) - np.searchsorted(ascending, wanted, side="left")
    rows, seen = distinct(contexts)
    before = (counts[seen] >= wanted[rows]) & (seen != targets[rows])
    ranks = ranks - np.bincount(rows[before], minlength=len(targets))
    return np.asarray(ranks, np.int32)


def sampled_ranks(counts: NDArray[np.int64], targets: Ints, negatives: Ints) -> Ints:
    """(U,) rank of each target among its negatives (U, n), 0 where there is none, by popularity."""
    before = (counts[negatives] >= counts[targets][:, None]) & (negatives > 0)
    return np.asarray(1 + before.sum(axis=1), np.int32)
