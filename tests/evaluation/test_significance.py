from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmser_tasks.evaluation.significance import holm, interval, intervals, paired_p

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.normal(0.02, 0.3, 500)
STEPS = GENERATOR.choice([-1.0, 0.0, 1.0], 500, p=[0.2, 0.5, 0.3])


def test_p_is_that_of_scipys_paired_test() -> None:
    base = GENERATOR.random(500)
    assert paired_p(NOISE) == pytest.approx(stats.ttest_rel(base + NOISE, base).pvalue)


@pytest.mark.parametrize(("differences", "p"), [([0.0] * 5, 1.0), ([0.3], 1.0), ([0.2] * 5, 0.0)])
def test_p_without_variance(differences: list[float], p: float) -> None:
    assert paired_p(np.array(differences)) == p


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, then never falling: .04 .06 .06 .06
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stays_below_one_and_never_below_the_raw_p() -> None:
    p = GENERATOR.random(50)
    assert (holm(p) <= 1).all()
    assert (holm(p) >= p).all()
    assert holm(np.array([0.03])) == pytest.approx([0.03])


@pytest.mark.parametrize("differences", [NOISE, STEPS], ids=["all different", "few values"])
def test_the_interval_agrees_with_theory_and_is_seeded(differences: np.ndarray) -> None:
    low, high = interval(differences, seed=1, resamples=4000)
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.1 * half)
    assert interval(differences, seed=1) == interval(differences, seed=1)
    assert interval(differences, seed=1) != interval(differences, seed=2)


def test_both_ways_to_resample_give_the_same_distribution() -> None:
    jittered = STEPS + np.linspace(0, 1e-9, len(STEPS))  # all different, so users are drawn one by one
    assert interval(jittered, 3, 4000) == pytest.approx(interval(STEPS, 3, 4000), abs=0.01)


def test_intervals_of_many_columns_agree_with_those_of_one() -> None:
    low, high = intervals(np.stack([NOISE, STEPS], axis=1), seed=1, resamples=4000)
    for column, values in enumerate((NOISE, STEPS)):
        assert (low[column], high[column]) == pytest.approx(interval(values, seed=2, resamples=4000), abs=0.01)
