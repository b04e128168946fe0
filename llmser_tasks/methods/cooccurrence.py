"""What followed a user's latest items in the histories of others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.counting import Counted, Ints, Test, distinct
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="co-occurrence", place=2, colour="counted")

USERS_AT_ONCE = 512
WINDOW = 50  # pairs further apart than this in a history are not counted: a very long history stays affordable


def rank(test: Test, progress: Progress = silent) -> Counted:
    """Rank each target by how often it followed the context's items; the k-th item from the end counts 1 / k.

    No number in this counter is tuned: a candidate stands k behind that item, so both weights are 1 / distance.
    """
    matrix = pairs(test.training, test.items)
    contexts, targets, negatives = test.contexts, test.targets, test.negatives
    full = np.empty(len(targets), np.int32)
    sampled = {seed: np.empty(len(targets), np.int32) for seed in negatives}
    for chunk, scores in _scores(matrix, contexts):
        wanted, rows = targets[chunk], np.arange(scores.shape[0])
        target_score = _at(scores, rows[:, None], wanted[:, None])[:, 0]
        owners = np.repeat(rows, np.diff(scores.indptr))
        before = np.bincount(owners[scores.data >= target_score[owners]], minlength=len(rows))
        before[target_score == 0] = test.items  # all others are tied with a target that no item of the context knows
        before -= 1  # the target itself
        owner, seen = distinct(contexts.select(np.arange(chunk.start, chunk.stop)))
        known = seen != wanted[owner]
        owner, seen = owner[known], seen[known]
        excluded = _at(scores, owner[:, None], seen[:, None])[:, 0] >= target_score[owner]
        full[chunk] = 1 + before - np.bincount(owner[excluded], minlength=len(rows))
        for seed, drawn in negatives.items():
            tied = _at(scores, rows[:, None], drawn[chunk]) >= target_score[:, None]
            sampled[seed][chunk] = 1 + (tied & (drawn[chunk] > 0)).sum(axis=1)
        progress(chunk.stop, len(targets), "users", "co-occurrence")
    return Counted(full, sampled)


def pairs(training: Histories, items: int) -> sp.csr_matrix:
    """(I + 1, I + 1) how often column follows row within a training history; a pair d apart counts 1 / d.

    An item bought twice does not follow itself.
    """
    total = sp.csr_matrix((items + 1, items + 1))
    rows = np.repeat(np.arange(len(training)), training.lengths)
    for distance in range(1, min(WINDOW, int(training.lengths.max(initial=1)) - 1) + 1):
        first, second = training.items[:-distance], training.items[distance:]
        pair = (rows[:-distance] == rows[distance:]) & (first != second)
        weight = np.full(int(pair.sum()), 1 / distance)
        total = total + sp.csr_matrix((weight, (first[pair], second[pair])), shape=total.shape)
    return total.tocsr()


def _scores(matrix: sp.csr_matrix, contexts: Histories) -> Iterator[tuple[slice, sp.csr_matrix]]:
    """Sparse scores (users, I + 1) of a few users at a time; every stored score is > 0."""
    for first in range(0, len(contexts), USERS_AT_ONCE):
        chunk = slice(first, min(first + USERS_AT_ONCE, len(contexts)))
        part = contexts.select(np.arange(chunk.start, chunk.stop))
        rows = np.repeat(np.arange(len(part)), part.lengths)
        weight = 1 / (part.offsets[1:][rows] - np.arange(len(part.items)))
        yield chunk, sp.csr_matrix((weight, (rows, part.items)), shape=(len(part), matrix.shape[0])) @ matrix


def _at(scores: sp.csr_matrix, rows: NDArray[np.int64], items: Ints) -> NDArray[np.float64]:
    """Scores at (row, item), shaped like `items`."""
    picked = scores[np.broadcast_to(rows, items.shape).ravel(), items.ravel()]
    return np.asarray(picked, np.float64).reshape(items.shape)
