from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from llmser_tasks.evaluation.evaluate import Sums, compare
from llmser_tasks.evaluation.metrics import METRICS
from llmser_tasks.evaluation.significance import PairedTest, common_level, holm, in_percent, judged, stars, verdict

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.normal(0.02, 0.3, 500)
STEPS = GENERATOR.choice([-1.0, 0.0, 1.0], 500, p=[0.2, 0.5, 0.3])


def test_p_is_that_of_scipys_paired_test() -> None:
    base = GENERATOR.random(500)
    assert PairedTest.of(NOISE).p == pytest.approx(stats.ttest_rel(base + NOISE, base).pvalue)


@pytest.mark.parametrize(("differences", "p"), [([0.0] * 5, 1.0), ([0.3], 1.0), ([0.2] * 5, 0.0)])
def test_p_without_variance(differences: list[float], p: float) -> None:
    assert PairedTest.of(np.array(differences)).p == p


@pytest.mark.parametrize("level", [0.95, 0.999])
@pytest.mark.parametrize("differences", [NOISE, STEPS], ids=["all different", "few values"])
def test_the_interval_is_that_of_scipys_paired_test(differences: np.ndarray, level: float) -> None:
    expected = stats.ttest_rel(differences, np.zeros(len(differences))).confidence_interval(level)
    assert PairedTest.of(differences).interval(level) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("differences", "interval"), [([0.2] * 5, (0.2, 0.2)), ([0.3], (-1, 1)), ([0.9, -0.9], (-1, 1))]
)
def test_intervals_without_variance_or_with_hardly_any_user_stay_within_what_metrics_can_be(
    differences: list[float], interval: tuple[float, float]
) -> None:
    assert PairedTest.of(np.array(differences)).interval(0.999) == pytest.approx(interval)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, then never falling: .04 .06 .06 .06
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stays_below_one_and_never_below_the_raw_p() -> None:
    p = GENERATOR.random(50)
    assert (holm(p) <= 1).all()
    assert (holm(p) >= p).all()
    assert holm(np.array([0.03])) == pytest.approx([0.03])


def test_the_common_level_is_where_holm_stops() -> None:
    assert common_level(np.array([0.2, 0.3, 1.0, 1.0])) == pytest.approx(1 - 0.05 / 4)
    assert common_level(np.array([0.01, 0.3, 1.0, 1.0])) == pytest.approx(1 - 0.05 / 3)
    assert common_level(np.array([0.01, 0.02])) == common_level(np.array([0.04])) == pytest.approx(0.95)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([-1.0, -0.4, -0.1, 0.0, 0.1, 0.4, 0.63, 1.0])),
        min_size=1,
        max_size=12,
    )
)
@example([NOISE, STEPS, NOISE[:40], STEPS[:40]])
@example([np.full(9, 0.1), NOISE[:9], np.zeros(9)])
def test_an_interval_leaves_0_out_exactly_where_p_holm_is_below_05(family: list[np.ndarray]) -> None:
    rows = judged([PairedTest.of(differences) for differences in family], [3] * len(family))
    assert [row["p_holm"] for row in rows] == pytest.approx(holm(np.array([row["p"] for row in rows])))
    for row in rows:
        assert row["low"] <= row["difference"] <= row["high"]
        assert (row["low"] > 0 or row["high"] < 0) == (row["p_holm"] < 0.05) == bool(row["stars"]), row


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.4))
def test_a_runs_comparisons_never_contradict_themselves(seed: int, gain: float) -> None:
    random = np.random.default_rng(seed)
    base = {metric: random.random(60) for metric in METRICS}
    paired = Sums()
    for _ in range(2):
        paired.add("base", base)
        paired.add("llmser", {metric: values + random.normal(gain / 5, 0.2, 60) for metric, values in base.items()})
    masks = {"all": np.ones(60, bool), "few": np.arange(60) < 7}
    for row in compare({"full": paired, "uniform-100": paired}, masks, 2):
        assert (row["low"] > 0 or row["high"] < 0) == (row["p_holm"] < 0.05), row


@pytest.mark.parametrize(
    ("p", "difference", "shown"),
    [
        (0.0009, 0.1, "***"),
        (0.009, 0.1, "**"),
        (0.049, 0.1, "*"),
        (0.05, 0.1, ""),
        (0.009, -0.1, "▼**"),
        (0.5, -0.1, ""),
    ],
)
def test_stars_stand_for_p_and_one_seed_has_none(p: float, difference: float, shown: str) -> None:
    assert stars(p, difference, 3) == stars(p, difference, 2) == shown
    assert stars(p, difference, 1) == ""
    assert verdict({"seeds": 2, "stars": shown}) == ("significant" if shown else "not significant")
    assert verdict({"seeds": 1, "stars": ""}) == "one seed"


@pytest.mark.parametrize(("tests", "shown"), [(1, "95 %"), (2, "97.5 %"), (10, "99.5 %"), (110, "99.955 %")])
def test_a_level_is_said_in_percent(tests: int, shown: str) -> None:
    assert in_percent(1 - 0.05 / tests) == shown
