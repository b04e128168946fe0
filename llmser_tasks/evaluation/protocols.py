"""Whom to test, what a model sees, and against which items the held-out one is ranked.

Full ranking is the headline: every catalogue item but the user's history competes. The legacy protocol ranks the
held-out item among n uniform negatives; it can reverse rankings and is there to compare with older papers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets

Ints = NDArray[np.int32]

FULL = "full"
USERS_AT_ONCE = 8192


@dataclass(frozen=True)
class Cases:
    """The users to evaluate, one row each.

    Attributes:
        contexts: (U) real items before the target, oldest first; the target is never among them.
        targets: (U,) held-out items.
        n: (U,) n_u, length of the training history alone.
    """

    contexts: Histories
    targets: Ints
    n: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


def cases(training: Histories, held_out: Targets) -> Cases:
    """Evaluate on training history + the items between it and the target (under leave-one-out: the validation item).

    A user who had the target before is left out. Nobody is recommended what they have, and a target from the history
    gives itself away when the rest of the history is excluded: on Yelp, where 7 % of test items are such repeats, they
    made up half of NDCG@10, and more of BERT4Rec's than of SASRec's.
    """
    contexts = held_out.inputs(training)
    new = ~contexts.hold(held_out.items)
    n = contexts.lengths - held_out.contexts.lengths
    return Cases(contexts.select(new), held_out.items[new], n[new])


def append(contexts: Histories, targets: Ints) -> Histories:
    """Every context followed by its target."""
    return contexts.then(Histories(contexts.users, np.arange(len(targets) + 1, dtype=np.int64), targets))


def uniform(negatives: int) -> str:
    """Name of the legacy protocol."""
    return f"uniform-{negatives}"


def draw_negatives(known: Histories, items: int, size: int, seed: int) -> Ints:
    """Distinct uniform negatives of the legacy protocol, among items that the user is not known to have.

    A draw depends only on the seed, the user and its number, so a user's negatives stay the same whoever else is
    evaluated, and every model of a seed meets the same ones.

    Args:
        known: per user all items that must not be drawn (history and target).
        items: I, ids are 1 … I.

    Returns:
        (U, size) item ids; 0-padded on the right where fewer than `size` other items exist.
    """
    drawn = np.zeros((len(known), size), np.int32)
    for first in range(0, len(known), USERS_AT_ONCE):
        rows = np.arange(first, min(first + USERS_AT_ONCE, len(known)))
        drawn[rows] = _draw(known.select(rows), items, size, seed)
    return drawn


def _draw(known: Histories, items: int, size: int, seed: int) -> Ints:
    keys = np.unique(_keys(np.repeat(np.arange(len(known)), known.lengths), known.items, items))
    wanted = np.minimum(size, items - np.bincount(keys // (items + 1), minlength=len(known)))
    drawn = np.zeros((len(known), size), np.int32)
    open_rows, width = np.flatnonzero(wanted), 2 * size
    while len(open_rows):
        tried = _hash(seed, known.users[open_rows], width, items)
        usable = ~np.isin(_keys(open_rows[:, None], tried, items), keys) & _first_seen(tried)
        place = np.cumsum(usable, axis=1)
        usable &= place <= wanted[open_rows, None]
        row, column = np.nonzero(usable)
        drawn[open_rows[row], place[row, column] - 1] = tried[row, column]
        open_rows, width = open_rows[place[:, -1] < wanted[open_rows]], 2 * width
    return drawn


def _keys(rows: NDArray[np.int64], tried: Ints, items: int) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = rows.astype(np.int64) * (items + 1) + tried
    return keys


def _first_seen(tried: Ints) -> NDArray[np.bool_]:
    """Where an item occurs for the first time in its row."""
    order = np.argsort(tried, axis=1, kind="stable")
    ordered = np.take_along_axis(tried, order, axis=1)
    fresh = np.ones(tried.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(fresh)
    np.put_along_axis(first, order, fresh, axis=1)
    return first


def _hash(seed: int, users: Ints, width: int, items: int) -> Ints:
    """(U, width) items: draw d of user u is splitmix64 of (seed, u, d) modulo I; the bias is below I / 2⁶⁴."""
    state = _mix(np.array([seed], np.uint64))
    state = _mix(state + users.astype(np.uint64))
    mixed = _mix(np.add.outer(state, np.arange(width, dtype=np.uint64)))
    return (mixed % np.uint64(items)).astype(np.int32) + 1


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of splitmix64 (Steele, Lea, Flood 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
