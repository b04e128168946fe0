"""Cutting each user's interactions into training, validation and test.

Both splits label every interaction with a part; what the labels mean is the same for both:

* training: the interactions before the first cut;
* validation target: the first interaction behind the first cut, and before the second;
* test target: the first interaction behind the second cut;
* context: what lies between a user's training history and the target (never anything behind the target).

Users without a training item are cold: no model of this family can serve them, so they are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.errors import InputError
from llmser_tasks.sequences.histories import Histories, Ints
from llmser_tasks.sequences.targets import Targets

TRAINING, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Interactions:
    """All interactions, sorted by user, then time, then as `ties` says.

    Attributes:
        users, items: (n,) int32.
        timestamps: (n,) int64 milliseconds UTC.
    """

    users: Ints
    items: Ints
    timestamps: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The parts, how many users have no training item (`cold`), and the temporal split's cuts in milliseconds UTC."""

    training: Histories
    validation: Targets
    test: Targets
    cold: int
    cuts: tuple[int, int] | None = None


def leave_one_out(interactions: Interactions) -> Split:
    """The last item of every user is the test target, the one before the validation target, the rest training.

    v1 v2 v3 v4 v5 → training v1 v2 v3; validation [] → v4; test [v4] → v5.
    """
    starts, lengths = _users(interactions)
    if len(lengths) and lengths.min() < 3:
        raise InputError("Leave-one-out needs at least 3 interactions of every user; raise min_length to 3.")
    parts = np.zeros(len(interactions.users), np.int8)
    parts[starts + lengths - 2] = VALIDATION
    parts[starts + lengths - 1] = TEST
    return _split(interactions, parts)


def temporal(interactions: Interactions) -> Split:
    """One cut in time for all users, at the 80 % and 90 % quantiles of the interactions' times.

    Training ends with the moment of the first cut, validation with that of the second: an interaction at the very
    moment of a cut lies before it. The targets are each user's first interaction behind a cut.

    Raises:
        InputError: nothing lies behind a cut, because too many interactions share one time.
    """
    first, second = (int(np.quantile(interactions.timestamps, q, method="inverted_cdf")) for q in (0.8, 0.9))
    parts = (interactions.timestamps > first).astype(np.int8) + (interactions.timestamps > second)
    split = _split(interactions, parts)
    if not len(split.validation) or not len(split.test):
        raise InputError(
            "The temporal split leaves no user with interactions on both sides of its cuts; use split leave-one-out."
        )
    return replace(split, cuts=(first, second))


def _users(interactions: Interactions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each user's rows start, and how many there are."""
    changes = np.flatnonzero(np.diff(interactions.users)) + 1
    starts = np.concatenate([[0], changes]) if len(interactions.users) else np.zeros(0, np.int64)
    return starts, np.diff(np.append(starts, len(interactions.users)))


def _split(interactions: Interactions, parts: NDArray[np.int8]) -> Split:
    """`parts` never falls within a user."""
    training = _histories(interactions, parts == TRAINING)
    present = len(_users(interactions)[0])
    return Split(
        training,
        _first_of(interactions, parts, VALIDATION, training),
        _first_of(interactions, parts, TEST, training),
        present - len(training),
    )


def _first_of(interactions: Interactions, parts: NDArray[np.int8], part: int, training: Histories) -> Targets:
    """Each training user's first interaction in `part` as target, with what lies between as context."""
    rows = np.flatnonzero(parts == part)
    rows = rows[np.diff(interactions.users[rows], prepend=-1) != 0]
    rows = rows[training.rows_of(interactions.users[rows]) >= 0]
    users = interactions.users[rows]
    between = _histories(interactions, (parts > TRAINING) & (parts < part))
    nothing = Histories(users, np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
    return Targets(users, nothing.then(between), interactions.items[rows])


def _histories(interactions: Interactions, rows: NDArray[np.bool_]) -> Histories:
    """The chosen rows as one sequence per user that has any."""
    users, lengths = np.unique(interactions.users[rows], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(users.astype(np.int32), offsets, interactions.items[rows])
