"""Candidate pools on disk: per user the N (or H) best items in rank order, with the model's scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.progress import Progress
from llmser_tasks.sequences.changes import Changes
from llmser_tasks.sequences.histories import Histories, ranges

POOLS = "pools.parquet"

Pools = tuple[NDArray[np.int32], NDArray[np.float32]]  # (U, size) items, best first, 0-padded, and as many scores


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


def earlier_pools(folder: Path, changes: Changes, size: int) -> Pools:
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


def interleaved(pools: Sequence[Pools], size: int) -> Pools:
    """One pool of several, in equal shares: the best of each in turn, then the second of each, and so on.

    An item counts where it comes first; where a pool ends, the others fill its share. Scores are those of the pool that
    an item was taken from, so they compare only with that pool's.
    """
    width = max(items.shape[1] for items, _ in pools)
    users = len(pools[0][0])
    in_turn = np.zeros((users, width, len(pools)), np.int32)
    scores = np.zeros((users, width, len(pools)), np.float32)
    for number, (items, of_items) in enumerate(pools):
        in_turn[:, : items.shape[1], number], scores[:, : items.shape[1], number] = items, of_items
    in_turn, scores = in_turn.reshape(users, -1), scores.reshape(users, -1)
    by_item = np.argsort(in_turn, axis=1, kind="stable")
    ordered = np.take_along_axis(in_turn, by_item, axis=1)
    first = ordered > 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    fresh = np.zeros(in_turn.shape, bool)
    np.put_along_axis(fresh, by_item, first, axis=1)
    place = np.cumsum(fresh, axis=1)
    row, column = np.nonzero(fresh & (place <= size))
    made, their_scores = np.zeros((users, size), np.int32), np.full((users, size), -np.inf, np.float32)
    made[row, place[row, column] - 1] = in_turn[row, column]
    their_scores[row, place[row, column] - 1] = scores[row, column]
    return made, their_scores


def random_pools(exclude: Histories, items: int, size: int, seed: int, progress: Progress) -> Pools:
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
