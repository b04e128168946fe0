"""Is LLMSeR different from the base? Paired over users, corrected for the number of questions, with an interval that
says the same.

The interval is the test's own (those differences that it would not refuse), not a bootstrap: only so does it agree with
p wherever p falls, and the level that Holm asks for lies where 2,000 resamples have not one draw beyond it.
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
        """Of (U,) differences, a user each."""
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

    Holm refuses the smallest p against .05 / m, the next against .05 / (m − 1), and stops at the first that stands:
    with r refused, against .05 / (m − r). Those refused are smaller than that, those left are not, so this one level
    says for all of them what the step-down said one by one (Strassburger and Bretz, "Compatible simultaneous lower
    confidence bounds for the Holm procedure", Statistics in Medicine 27, 2008, use the same one, one-sided). It is
    between .95 and 1 − .05 / m.
    """
    left = len(p_holm) - int((p_holm < SIGNIFICANT).sum())
    return 1 - SIGNIFICANT / max(left, 1)


def judged(tests: Sequence[PairedTest], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What a family of tests says, a row each: difference, low, high, p, p_holm, level, seeds, stars.

    Args:
        seeds: over how many trainings each user's metrics were averaged.
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
    """`*`, `**`, `***` for p_holm below .05, .01, .001, ▼ before them where it is worse; none with one seed."""
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
