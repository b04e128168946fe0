"""Is LLMSeR different from the base? Paired over users, with an interval, corrected for the number of questions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 2000
CHUNK = 1 << 22  # draws held at once


def paired_p(differences: Floats) -> float:
    """p of the two-sided paired t-test of mean difference 0.

    Where every user differs by the same amount there is no variance to test against: p is 1 if that amount is 0, or if
    there is one user only, else 0.
    """
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    if spread == 0:
        return 0.0 if len(differences) > 1 and differences[0] != 0 else 1.0
    t = differences.mean() / (spread / np.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def interval(differences: Floats, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean difference, users resampled with replacement.

    Users whose difference is the same are interchangeable, so where values repeat (H@K, NDCG@K) a resample is one
    multinomial draw over the distinct values: the same distribution at a fraction of the draws.
    """
    generator = np.random.default_rng(seed)
    values, counts = np.unique(differences, return_counts=True)
    draw = _by_value if len(values) * 8 < len(differences) else _by_user
    sample = np.concatenate(list(draw(values, counts, len(differences), resamples, generator)))
    low, high = np.quantile(sample, [0.025, 0.975])
    return float(low), float(high)


def intervals(differences: Floats, seed: int, resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """95 % percentile bootstrap interval of every column of (U, C), low (C,) and high (C,).

    All columns share the resamples, so that one draw of the users pays for a whole table.
    """
    users, columns = differences.shape
    generator = np.random.default_rng(seed)
    sample = np.empty((resamples, columns))
    step = max(1, CHUNK // users)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        drawn = generator.integers(0, users, (size, users)) + users * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users)
        sample[first : first + size] = times.astype(np.float64) @ differences / users
    low, high = np.quantile(sample, [0.025, 0.975], axis=0)
    return low, high


def holm(p: Floats) -> Floats:
    """Holm's step-down adjustment: below .05 only where the family-wise error over all of `p` stays below .05."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _by_value(
    values: Floats, counts: NDArray[np.int64], users: int, resamples: int, generator: np.random.Generator
) -> Iterator[Floats]:
    step = max(1, CHUNK // len(values))
    for first in range(0, resamples, step):
        drawn = generator.multinomial(users, counts / users, size=min(step, resamples - first))
        yield drawn @ values / users


def _by_user(
    values: Floats, counts: NDArray[np.int64], users: int, resamples: int, generator: np.random.Generator
) -> Iterator[Floats]:
    differences = np.repeat(values, counts)
    step = max(1, CHUNK // users)
    for first in range(0, resamples, step):
        drawn = generator.integers(0, users, (min(step, resamples - first), users), dtype=np.int32)
        yield differences[drawn].mean(axis=1)
