"""Items whose titles are nearest to those at the beginning of S_u, next to which a pseudo item stands: what a model of
the same kind as the recommender's, trained on the same histories, would hardly propose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.kinds import POOL_SOURCES, PoolSource
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.similarity import Floats, Titles, near
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import Pools
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = PoolSource(
    title="title neighbours",
    place=2,
    found="what is called much like the earliest entries of the history",
    by="by comparing titles",
)

NAME = "titles"
VECTORS = "item-vectors"


def inputs(run: Run, refs: Refs) -> Mapping[str, Artefact]:
    del run
    return {VECTORS: artefact(refs, VECTORS)}


def modules(run: Run, refs: Refs) -> list[str]:
    del run, refs
    return [POOL_SOURCES.module_of(NAME)]


def propose(run: Run, refs: Refs, seen: Histories, size: int, progress: Progress) -> Pools:
    """The items with the highest cosine to Σ_k title of the k-th item / k; equal ones by id. None for a history without
    a title, none without a title.
    """
    titles = Titles.distinct(ItemVectors.read(run.folder(refs, VECTORS)))
    titled = np.flatnonzero(titles.of >= 0)
    items, scores = np.zeros((len(seen), size), np.int32), np.full((len(seen), size), -np.inf, np.float32)
    for part in near(seen.reverse(), titles, weigh):
        rows = np.arange(part.rows.start, part.rows.stop)[part.known]
        own = seen.select(rows)
        of_items = part.cosines[np.ix_(part.known, titles.of[titled])]
        owner, had = np.repeat(np.arange(len(own)), own.lengths), titles.of[own.items] >= 0
        of_items[owner[had], np.searchsorted(titled, own.items[had])] = -np.inf
        best, cosines = _highest(of_items, size)
        items[rows, : best.shape[1]] = np.where(np.isfinite(cosines), titled[best], 0)
        scores[rows, : best.shape[1]] = cosines
        progress(part.rows.stop, len(seen), "users")
    return items, scores


def weigh(place: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the k-th item of a history counts.

    Of 2,236 Beauty users whose first item was hidden, 20 neighbours weighted like this held it for 7.6 %; with all
    items alike 6.4 %, with the first alone 6.4 %, with 1 / k² 6.9 % (CCG's 20: 13.6 %).
    """
    return 1 / place


def _highest(scores: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """Columns (R, ≤ count) of each row's highest scores, highest first and equal ones in order, and these scores."""
    count = min(count, scores.shape[1])
    if not len(scores) or not count:
        return np.zeros((len(scores), count), np.int64), np.zeros((len(scores), count), np.float32)
    least = np.partition(scores, -count, axis=1)[:, -count]
    row, column = np.nonzero(scores >= least[:, None])
    order = np.lexsort((column, -scores[row, column], row))
    first = np.searchsorted(row, np.arange(len(scores)))
    kept = order[np.arange(len(row)) - first[row] < count]
    best = column[kept].reshape(len(scores), count)
    return best, np.take_along_axis(scores, best, axis=1)
