"""What followed a user's latest items in the histories of others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.counting import Counted, Test, ranked
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="co-occurrence", place=2, colour="counted")

USERS_AT_ONCE = 512
WINDOW = 50  # pairs further apart than this in a history are not counted: a very long history stays affordable


def rank(test: Test, progress: Progress = silent) -> Counted:
    """Rank each target by how often it followed the context's items; the k-th item from the end counts 1 / k.

    No number in this counter is tuned: a candidate comes k places after that item, so both weights are 1 / distance.
    """
    matrix = pairs(test.training, test.items)
    return ranked(test, _scores(matrix, test.contexts), DECLARED.title, progress)


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
