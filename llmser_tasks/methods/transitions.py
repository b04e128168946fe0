"""What is a step or two away from a user's last two items in other histories, the closest titles first.

After "An embarrassingly simple graph heuristic reveals shortcut-solvable benchmarks for sequential recommendation"
(arXiv 2605.07125): an item's successors in the training histories, and theirs, are the candidates; how close their
titles are, and how often a direct successor followed, ranks them. The authors fill a list of ten with a fixed number
from each ring around each item; to rank all items, only their score is used here. A title here is the item's text,
which says more than its title where the dataset's `item_text` does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.counting import Counted, Test, ranked
from llmser_tasks.methods.similarity import Titles, near
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = Method(title="transition graph", place=1, needs=("item-vectors",), charted=False, colour="sixth")

LAST = 2  # items that a user is known by
OFTEN = 0.5  # weight of how often a successor followed, beside the cosine; the authors' for all of their datasets
LEAST = 2.0  # added to scores, which are ≥ -1, so that every candidate's is > 0


def rank(test: Test, progress: Progress = silent) -> Counted:
    """Rank each target by cos(mean of the last two titles, title) + ½ · often.

    "Often" is log(1 + how often the item came next after one of the two) as a share of the highest such value among
    that one's successors; of the two the higher counts.

    A candidate without a title has the lowest cosine, -1. Items that are not candidates tie behind all that are.
    """
    titles = Titles.distinct(ItemVectors.read(test.folders["item-vectors"]))
    scores = _scores(transitions(test.training, test.items), test.contexts, titles)
    return ranked(test, scores, DECLARED.title, progress)


def transitions(training: Histories, items: int) -> sp.csr_matrix:
    """(I + 1, I + 1) how often column came next after row in a training history. An item does not follow itself."""
    owner = np.repeat(np.arange(len(training)), training.lengths)
    first, second = training.items[:-1], training.items[1:]
    pair = (owner[:-1] == owner[1:]) & (first != second)
    return sp.csr_matrix((np.ones(int(pair.sum())), (first[pair], second[pair])), shape=(items + 1, items + 1))


def _scores(graph: sp.csr_matrix, contexts: Histories, titles: Titles) -> Iterator[tuple[slice, sp.csr_matrix]]:
    often = graph.copy()
    often.sum_duplicates()
    often.data = np.log1p(often.data)
    often.data /= np.repeat(often.max(axis=1).toarray().ravel(), np.diff(often.indptr))
    step = sp.csr_matrix((np.ones_like(graph.data), graph.indices, graph.indptr), shape=graph.shape)
    for part in near(contexts, titles, lambda k: np.where(k <= LAST, 1.0, 0.0)):
        of_part = contexts.select(np.arange(part.rows.start, part.rows.stop))
        one = sp.csr_matrix((len(of_part), graph.shape[0]))
        reached = one
        for k in range(1, LAST + 1):
            source = _from_the_end(of_part, k, graph.shape[0])
            one = one.maximum(source @ often)
            reached = reached + source @ step
        reached = reached + reached @ step
        owner = np.repeat(np.arange(len(of_part)), np.diff(reached.indptr))
        title = titles.of[reached.indices]
        cosines = np.where(title >= 0, part.cosines[owner, title], -1.0)
        shape = reached.shape
        candidates = sp.csr_matrix((LEAST + cosines.astype(np.float64), reached.indices, reached.indptr), shape=shape)
        yield part.rows, sp.csr_matrix(candidates + OFTEN * one)


def _from_the_end(contexts: Histories, k: int, width: int) -> sp.csr_matrix:
    """(users, I + 1) a 1 at the k-th item from the end of each context that is long enough."""
    long = np.flatnonzero(contexts.lengths >= k)
    items: NDArray[np.int32] = contexts.items[contexts.offsets[1:][long] - k]
    return sp.csr_matrix((np.ones(len(long)), (long, items)), shape=(len(contexts), width))
