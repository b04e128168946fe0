"""Targets for early stopping that are cut out of a model's own training sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.histories import Histories


def share_of_users(histories: Histories, share: float, seed: int) -> NDArray[np.bool_]:
    """(U,) a seeded share (at least one) of the users who have an item to spare, that is, two or more."""
    eligible = np.flatnonzero(histories.lengths >= 2)
    count = min(len(eligible), max(1, round(share * len(eligible))))
    chosen = np.random.default_rng(seed).choice(eligible, size=count, replace=False)
    mask = np.zeros(len(histories), dtype=bool)
    mask[chosen] = True
    return mask


def split_last(sequences: Histories, held: NDArray[np.bool_]) -> tuple[Histories, Watch]:
    """Keep the last item of each held sequence out of training and watch it instead.

    Works on either direction: the last item of a reversed history is the user's first.

    Args:
        held: (U,) which sequences lose their last item.

    Returns:
        The sequences to train on (those left empty fall out), and the targets to watch: the held sequences that keep
        at least one item as context.
    """
    ends = sequences.offsets[1:][held & (sequences.lengths > 0)] - 1
    keep = np.ones(len(sequences.items), dtype=bool)
    keep[ends] = False
    lengths = sequences.lengths - (held & (sequences.lengths > 0))
    cut = Histories(sequences.users, np.concatenate([[0], np.cumsum(lengths)]), sequences.items[keep])
    watched = held & (lengths > 0)
    contexts = cut.select(watched)
    return cut.select(lengths > 0), Watch(contexts=contexts, targets=sequences.last()[watched], exclude=contexts)
