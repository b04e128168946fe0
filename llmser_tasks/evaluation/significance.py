"""Is a method different from the reference? Paired over users, corrected for the number of comparisons, with an
interval that says the same.

The interval is the test's own (the differences that it would not reject), not a bootstrap: only then does it agree with
p everywhere, and 2,000 resamples may have no draw beyond the level that Holm asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05
STARS = ((0.001, "***"), (0.01, "**"), (SIGNIFICANT, "*"))
WIDEST = 1.0  # every metric lies in 0 … 1, so no difference lies beyond −1 … 1


@dataclass(frozen=True)
class PairedTest:
    """The two-sided paired t-test of mean difference 0.

    Attributes:
        difference: mean over users.
        error: its standard error; 0 where every user differs by the same amount, infinite with one user only.
        users: how many.
    """

    difference: float
    error: float
    users: int

    @classmethod
    def of(cls, differences: Floats) -> PairedTest:
        """From (U,) differences, one per user."""
        users = len(differences)
        error = float(differences.std(ddof=1) / math.sqrt(users)) if users > 1 else math.inf
        return cls(float(differences.mean()), error, users)

    @property
    def p(self) -> float:
        """Where every user differs by the same amount there is no variance to test against: p is 1 if that amount is
        0, else 0. With one user only it is 1."""
        if math.isinf(self.error):
            return 1.0
        if self.error == 0:
            return 0.0 if self.difference else 1.0
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.users - 1))

    def interval(self, level: float) -> tuple[float, float]:
        """The interval of this level; it leaves 0 out exactly where p < 1 − level."""
        if math.isinf(self.error):
            return -WIDEST, WIDEST
        half = self.error * float(stats.t.isf((1 - level) / 2, self.users - 1)) if self.error else 0.0
        return max(self.difference - half, -WIDEST), min(self.difference + half, WIDEST)


def holm(p: Floats) -> Floats:
    """Holm's step-down adjustment: below .05 only where the family-wise error over all of `p` stays below .05."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def common_level(p_holm: Floats) -> float:
    """The level at which every interval of a family leaves 0 out exactly where its p_holm is below .05.

    Holm tests the smallest p against .05 / m, the next against .05 / (m − 1), and stops at the first hypothesis that
    stands: with r rejected, against .05 / (m − r). The p of those rejected are smaller than that, the rest are not, so
    this one level says for all what the step-down said one by one (Strassburger and Bretz, "Compatible simultaneous
    lower confidence bounds for the Holm procedure", Statistics in Medicine 27, 2008, use the same one, one-sided). It
    is between .95 and 1 − .05 / m.
    """
    left = len(p_holm) - int((p_holm < SIGNIFICANT).sum())
    return 1 - SIGNIFICANT / max(left, 1)


def judged(tests: Sequence[PairedTest], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What a family of tests says, one row per test: difference, low, high, p, p_holm, level, seeds, stars.

    Args:
        seeds: how many trainings each user's metrics were averaged over.
    """
    corrected = holm(np.array([test.p for test in tests]))
    level = common_level(corrected)
    rows = []
    for test, p_holm, trained in zip(tests, corrected.tolist(), seeds, strict=True):
        low, high = test.interval(level)
        rows.append(
            {"difference": test.difference, "low": low, "high": high, "p": test.p, "p_holm": p_holm}
            | {"level": level, "seeds": trained, "stars": stars(p_holm, test.difference, trained)}
        )
    return rows


def stars(p_holm: float, difference: float, seeds: int) -> str:
    """`*`, `**`, `***` for p_holm below .05, .01, .001, with ▼ in front if worse; none with one seed."""
    if seeds < 2:
        return ""
    found = next((found for below, found in STARS if p_holm < below), "")
    return f"▼{found}" if found and difference < 0 else found


def verdict(row: Mapping[str, Any]) -> str:
    """A row of `judged` in two words."""
    if row["seeds"] < 2:
        return "one seed"
    return "significant" if row["stars"] else "not significant"


def in_percent(level: float) -> str:
    """A level as people write it, 95 % or 99.954 %: its distance from 100 % has two digits."""
    places = 1 - math.floor(math.log10(100 * (1 - level)))
    return f"{100 * level:.{places}f}".rstrip("0").rstrip(".") + " %"
