"""α of the mended form: how far each user's pseudo items are trusted.

A large part of the paper's ω says how alike a shop's titles are: with a random candidate in the place of the named one
it would be high already. Above chance, ω = (cos - c₀) / (1 - c₀), where c₀ is the mean cosine of the masked item to
all that could have been named; 0 where that is negative.

Of 2,235 Beauty users, with a ranker of titles in the LLM's place, the mean of the paper's ω is 5 % less with another
user's pseudo items than with their own (.389, .368), that of ω above chance 18 % (.119, .098), and 35 % with joined
pools and the masked item always among the candidates (.227, .146). Neither says well whose pseudo items are right.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.files import RELIABILITY
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.llmser_mended.settings import Mended
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS
from llmser_tasks.texts.vectors import ItemVectors

Floats = NDArray[np.float64]
ROWS = 65_536  # pairs multiplied at once; bounds memory
ALIKE = 1 - 1e-6  # a mean cosine from which on all candidates are the same to the encoder


def trust(run: Run, refs: Refs, users: NDArray[np.int32]) -> Floats:
    """(U,) α_u: the weight decay of head users (Eq. 8) stays as it is."""
    scores = pq.read_table(run.folder(refs, "reliability") / RELIABILITY)
    assert np.array_equal(users, scores["user"].to_numpy()), "weights belong to other users"
    alpha: Floats = scores["alpha"].to_numpy()
    if run.config.of(Mended).omega == "cosine" or run.config.without("arv"):
        return alpha
    omega = scores["omega"].to_numpy()
    decay: Floats = np.divide(alpha, omega, out=np.zeros_like(alpha), where=omega > 0)
    masked, named = scores["masked"].to_numpy(), scores["named"].fill_null(0).to_numpy()
    pools = Histories.read(run.folder(refs, "rcs") / POOLS)
    vectors = ItemVectors.read(run.folder(refs, "item-vectors"))
    return decay * above_chance(masked, named, pools, vectors)


def above_chance(masked: NDArray[np.int32], named: NDArray[np.int32], pools: Histories, items: ItemVectors) -> Floats:
    """(U,) ω of users who have a named item, else 0.

    Args:
        masked, named: (U,) items; named is 0 where nothing was.
        pools: the candidates, of which those with a title could be named; same rows.
    """
    row = np.repeat(np.arange(len(pools)), pools.lengths)
    shown = items.titled[pools.items]
    row, candidates = row[shown], pools.items[shown]
    cosines = _cosines(items, masked[row], candidates)
    count = np.bincount(row, minlength=len(pools))
    chance = np.bincount(row, cosines, minlength=len(pools)) / np.maximum(count, 1)
    telling = (named > 0) & (chance < ALIKE)
    omega = np.zeros(len(pools))
    own = np.where(named == masked, 1.0, _cosines(items, masked, named))
    omega[telling] = np.maximum(own - chance, 0)[telling] / (1 - chance[telling])
    return omega


def _cosines(items: ItemVectors, left: NDArray[np.int32], right: NDArray[np.int32]) -> Floats:
    """(n,) cosines, clamped to [0, 1] as the paper's ω is."""
    found = np.empty(len(left))
    for start in range(0, len(left), ROWS):
        rows = slice(start, start + ROWS)
        found[rows] = np.einsum("nd,nd->n", items.vectors[left[rows]], items.vectors[right[rows]], dtype=np.float64)
    return np.clip(found, 0.0, 1.0)
