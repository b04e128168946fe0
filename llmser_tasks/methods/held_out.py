"""Targets for early stopping that are cut out of a model's own training sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.changes import Changes
from llmser_tasks.sequences.histories import Histories

HELD = "held.parquet"


def share_of_users(histories: Histories, share: float, seed: int) -> NDArray[np.bool_]:
    """(U,) a seeded share (at least one) of the users who have an item to spare, that is, two or more."""
    eligible = np.flatnonzero(histories.lengths >= 2)
    count = min(len(eligible), max(1, round(share * len(eligible))))
    chosen = np.random.default_rng(seed).choice(eligible, size=count, replace=False)
    mask = np.zeros(len(histories), dtype=bool)
    mask[chosen] = True
    return mask


def still_held(histories: Histories, changes: Changes, earlier: Path, share: float, seed: int) -> NDArray[np.bool_]:
    """(U,) whose item is held out of a training that goes on from an earlier model: users whose item that model did not
    see either, and a seeded share of the users new to it. A fresh share would watch what the model has already learned.

    Args:
        earlier: what `note_held` wrote beside the earlier model.
    """
    before = pq.read_table(earlier)["user"].to_numpy()
    new = changes.former < 0
    drawn = np.zeros(len(histories), dtype=bool)
    drawn[new] = share_of_users(histories.select(new), share, seed)
    return drawn | (np.isin(changes.former, before) & ~new & (histories.lengths >= 2))


def note_held(folder: Path, histories: Histories, held: NDArray[np.bool_]) -> None:
    """Write whose items are held out beside the model, for trainings that go on from it."""
    pq.write_table(pa.table({"user": pa.array(histories.users[held], pa.int32())}), folder / HELD)


def split_last(sequences: Histories, held: NDArray[np.bool_]) -> tuple[Histories, Watch]:
    """Keep the last item of each held sequence out of training and watch it instead.

    Works on either direction: the last item of a reversed history is the user's first.

    Args:
        held: (U,) which sequences lose their last item.

    Returns:
        The sequences to train on (without those left empty), and the targets to watch: held sequences that keep at
        least one item as context, and do not hold the lost item twice.
    """
    ends = sequences.offsets[1:][held & (sequences.lengths > 0)] - 1
    keep = np.ones(len(sequences.items), dtype=bool)
    keep[ends] = False
    lengths = sequences.lengths - (held & (sequences.lengths > 0))
    cut = Histories(sequences.users, np.concatenate([[0], np.cumsum(lengths)]), sequences.items[keep])
    watched = held & (lengths > 0)
    contexts = cut.select(watched)
    return cut.select(lengths > 0), Watch.of(contexts, sequences.last()[watched], exclude=contexts)
