from __future__ import annotations

import numpy as np

from llmser_tasks.evaluation.protocols import append, cases, draw_negatives
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets

KNOWN = Histories.of([3, 7, 9], [[1, 2, 3], [4], [5, 5, 6]])


def test_a_context_holds_training_and_validation_items_but_never_the_target() -> None:
    training = Histories.of([0, 1, 2], [[1, 2], [3], [4, 5, 6]])
    held_out = Targets(np.array([0, 2], np.int32), Histories.of([0, 2], [[7], [8]]), np.array([9, 10], np.int32))
    asked = cases(training, held_out)
    assert [list(row) for row in asked.contexts] == [[1, 2, 7], [4, 5, 6, 8]]
    assert asked.targets.tolist() == [9, 10]
    assert asked.n.tolist() == [2, 3]
    assert [list(row) for row in append(asked.contexts, asked.targets)] == [[1, 2, 7, 9], [4, 5, 6, 8, 10]]


def test_nobody_is_tested_on_an_item_that_they_had_before() -> None:
    training = Histories.of([0, 1, 2, 3], [[1, 2], [3, 9], [4, 5, 6], []])
    contexts = Histories.of([0, 1, 2, 3], [[7], [8], [8], [3]])
    held_out = Targets(np.arange(4, dtype=np.int32), contexts, np.array([9, 9, 8, 4], np.int32))
    asked = cases(training, held_out)  # 1 had 9 in training, 2 had 8 as validation item
    assert asked.contexts.users.tolist() == [0, 3]
    assert [list(row) for row in asked.contexts] == [[1, 2, 7], [3]]
    assert asked.targets.tolist() == [9, 4]
    assert asked.n.tolist() == [2, 0]


def test_negatives_are_distinct_and_unknown_to_the_user() -> None:
    drawn = draw_negatives(KNOWN, items=40, size=30, seed=42)
    for row, known in zip(drawn, KNOWN, strict=True):
        assert len(set(row)) == 30
        assert not set(row) & set(known)
        assert row.min() >= 1 and row.max() <= 40


def test_negatives_are_fixed_per_seed_and_user_whoever_else_is_asked() -> None:
    drawn = draw_negatives(KNOWN, 500, 100, seed=42)
    assert np.array_equal(drawn, draw_negatives(KNOWN, 500, 100, seed=42))
    assert np.array_equal(drawn[1:2], draw_negatives(KNOWN.select(np.array([1])), 500, 100, seed=42))
    assert not np.array_equal(drawn, draw_negatives(KNOWN, 500, 100, seed=43))
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_small_catalogue_gives_all_it_has_and_padding_after() -> None:
    drawn = draw_negatives(KNOWN, items=6, size=10, seed=1)
    assert [sorted(row[row > 0]) for row in drawn] == [[4, 5, 6], [1, 2, 3, 5, 6], [1, 2, 3, 4]]
    assert (drawn[:, 5:] == 0).all()


def test_a_user_who_knows_everything_has_no_negatives() -> None:
    assert not draw_negatives(Histories.of([0], [[1, 2]]), items=2, size=5, seed=1).any()


def test_negatives_are_uniform() -> None:
    users = Histories.of(range(4000), [[1]] * 4000)
    counts = np.bincount(draw_negatives(users, items=21, size=5, seed=7).ravel(), minlength=22)[2:]
    assert counts.sum() == 20_000
    assert ((counts - 1000) ** 2 / 1000).sum() < 44  # χ² with 19 degrees of freedom, p = .001
