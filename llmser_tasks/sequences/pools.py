"""Candidate pools on disk: per user the N (or H) best items in rank order, with the model's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.progress import Progress
from llmser_tasks.sequences.changes import Changes
from llmser_tasks.sequences.histories import Histories, ranges

POOLS = "pools.parquet"


def write_pools(folder: Path, users: NDArray[np.int32], items: NDArray[np.int32], scores: NDArray[np.float32]) -> int:
    """Write `pools.parquet`; one row per user, in rank order, without padding.

    Args:
        users: (U,) ascending.
        items: (U, N) item ids, best first, 0 where a user has fewer than N.
        scores: (U, N) the model's scores; ignored where the item is 0.

    Returns:
        Candidates over all users.
    """
    known = items != 0
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    pools = Histories(users, offsets, items[known])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(scores[known], pa.float32()))
    pq.write_table(pools.to_arrow({"scores": lists}), folder / POOLS)
    return int(offsets[-1])


def earlier_pools(folder: Path, changes: Changes, size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The pools that an earlier run made for the users who have not changed, in present item numbers.

    Returns:
        (K, size) item ids and scores, 0-padded, one row per kept user, in order.
    """
    table = pq.read_table(folder / POOLS)
    pools = Histories.from_arrow(table.select(["user", "items"]))
    scores = table["scores"].combine_chunks().flatten().to_numpy()
    rows = pools.rows_of(changes.former[changes.kept])
    lengths = pools.lengths[rows]
    places = ranges(pools.offsets[rows], lengths)
    at = np.repeat(np.arange(len(rows)), lengths), ranges(np.zeros(len(rows), np.int64), lengths)
    items = np.zeros((len(rows), size), np.int32)
    found = np.zeros((len(rows), size), np.float32)
    items[at], found[at] = changes.items[pools.items[places]], scores[places]
    return items, found


def random_pools(
    exclude: Histories, items: int, size: int, seed: int, progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Uniformly random pools, for the ablations without CCG or RCS; each user's draw has its own seed.

    Args:
        exclude: the items a user's pool must not hold; also names the users.
        items: I, the size of the catalogue (ids 1 … I).

    Returns:
        (U, size) item ids, 0-padded where fewer than `size` items remain, and as many zero scores.
    """
    pools = np.zeros((len(exclude), size), np.int32)
    for row, user in enumerate(exclude.users):
        unwanted = exclude[row]
        drawn = np.random.default_rng([seed, int(user)]).choice(
            items, size=min(items, size + len(unwanted)), replace=False
        )
        kept = (drawn + 1)[~np.isin(drawn + 1, unwanted)][:size]
        pools[row, : len(kept)] = kept
        progress(row + 1, len(exclude), "users")
    return pools, np.zeros(pools.shape, np.float32)
