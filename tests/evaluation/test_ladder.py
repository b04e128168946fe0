from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmser_tasks.core.kinds import METHODS, REFERENCE, WITH
from llmser_tasks.evaluation.groups import Mask
from llmser_tasks.evaluation.ladder import COLUMNS, beside_reference, climb, ladder
from llmser_tasks.evaluation.significance import PairedTest, common_level, holm

TRAINED = [name for name in METHODS.every() if METHODS[name].trained]
GENERATOR = np.random.default_rng(7)
USERS = 200
MASKS: dict[str, Mask] = {
    "all": np.ones(USERS, bool),
    "tail users": np.arange(USERS) < 80,
    "head users": np.arange(USERS) >= 80,
}


@pytest.mark.parametrize(
    ("methods", "top", "expected"),
    [
        ("base llmser", "llmser", "base llmser"),
        (
            "base base+text-start base+text-start+content llmser+text-start+content",
            "llmser+text-start+content",
            "base base+text-start base+text-start+content llmser+text-start+content",
        ),
        ("base llmser base+alphafuse base+text-start", "base+text-start", "base base+text-start"),
        ("base llmser+text-start+content", "llmser+text-start+content", "base llmser+text-start+content"),
        ("base llmser asrep llmser+content", "llmser+content", "base llmser llmser+content"),
        ("base", "base", "base"),
    ],
    ids=["one rung", "all on the way", "what does not lead there", "a gap", "by way of the method", "nothing"],
)
def test_it_goes_by_the_methods_of_the_run_that_lead_there(methods: str, top: str, expected: str) -> None:
    assert ladder(methods.split(), top) == expected.split()


def test_of_equal_ways_it_takes_tables_first_then_additions_then_the_method() -> None:
    methods = "base llmser base+content base+text-start llmser+content llmser+text-start base+text-start+content"
    top = "llmser+text-start+content"
    expected = ["base", "base+text-start", "base+text-start+content", top]
    assert ladder([top, *methods.split()], top) == expected == ladder([*reversed(methods.split()), top], top)


@given(st.sets(st.sampled_from(TRAINED)), st.sampled_from(TRAINED))
def test_every_rung_is_of_the_run_has_all_parts_of_the_one_before_and_more_and_none_fits_between(
    others: set[str], top: str
) -> None:
    methods = others | {REFERENCE, top}
    found = ladder(sorted(methods), top)
    parts = {name: set(name.split(WITH)) - {REFERENCE} for name in methods}
    assert found[0] == REFERENCE and found[-1] == top and set(found) <= methods
    for before, after in pairwise(found):
        assert parts[before] < parts[after]
        assert not [name for name in methods if parts[before] < parts[name] < parts[after]]


def test_it_ends_at_what_readers_are_given_or_else_at_the_best_of_the_others() -> None:
    validation = {"base": 0.3, "base+content": 0.1, "llmser": 0.2}
    assert beside_reference("base+content", validation) == "base+content"
    assert beside_reference("base", validation) == "llmser"
    assert beside_reference("base", {"base": 0.3}) == "base"


def test_every_rung_is_the_paired_difference_to_the_one_before_corrected_over_rungs_and_groups() -> None:
    steps = ["base", "base+text-start", "llmser+text-start+content"]
    values = {name: GENERATOR.random(USERS) * 0.1 + 0.02 * place for place, name in enumerate(steps)}
    rows = climb(steps, values, MASKS, 3)
    assert [(row["place"], row["user_group"]) for row in rows] == [
        (1, "all"), (1, "tail users"), (2, "all"), (2, "tail users"),
    ]  # fmt: skip
    assert [row["added"] for row in rows[::2]] == ["text-start", "llmser+content"]
    tests = []
    for row in rows:
        before, now = (values[row[name]][MASKS[row["user_group"]]] for name in ("previous", "method"))
        assert (row["previous_mean"], row["mean"]) == (pytest.approx(before.mean()), pytest.approx(now.mean()))
        assert row["difference"] == pytest.approx((now - before).mean())
        tests.append(PairedTest.of(now - before))
    corrected = holm(np.array([test.p for test in tests]))
    assert [row["p_holm"] for row in rows] == pytest.approx(list(corrected))
    assert {row["level"] for row in rows} == {common_level(corrected)}
    assert all((row["low"], row["high"]) == test.interval(row["level"]) for row, test in zip(rows, tests, strict=True))
    assert all(set(row) == set(COLUMNS) for row in rows)
    assert rows[2]["previous_mean"] == rows[0]["mean"], "bars stand on each other"


def test_of_one_seed_no_rung_has_stars() -> None:
    values = {"base": np.zeros(USERS), "llmser": GENERATOR.random(USERS)}
    assert [row["stars"] for row in climb(["base", "llmser"], values, MASKS, 1)] == ["", ""]
    assert [row["stars"] for row in climb(["base", "llmser"], values, MASKS, 2)] == ["***", "***"]


def test_a_group_without_users_and_a_run_of_the_reference_alone_have_no_rows() -> None:
    values = {"base": np.zeros(USERS), "llmser": np.ones(USERS)}
    assert [row["user_group"] for row in climb(["base", "llmser"], values, {"all": MASKS["all"]}, 1)] == ["all"]
    assert climb(["base"], values, MASKS, 1) == []
