from __future__ import annotations

import numpy as np
import pytest
from counter_world import ITEMS, brute_force, random_world

from llmser_tasks.methods import cooccurrence, popularity
from llmser_tasks.methods.counting import Test
from llmser_tasks.sequences.histories import Histories


def follows(training: Histories) -> np.ndarray:
    counts = np.zeros((ITEMS + 1, ITEMS + 1))
    for row in training:
        for i in range(len(row)):
            for j in range(i + 1, len(row)):
                if row[i] != row[j]:
                    counts[row[i], row[j]] += 1 / (j - i)
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_popularity_ranks_like_a_loop(seed: int) -> None:
    training, contexts, targets, negatives = random_world(seed)
    counts = training.counts(ITEMS)
    assert counts[1:].tolist() == [int((training.items == item).sum()) for item in range(1, ITEMS + 1)]
    expected = [brute_force(counts, *case) for case in zip(contexts, targets, negatives, strict=True)]
    ranks = popularity.rank(Test(training, ITEMS, contexts, targets, {42: negatives}))
    assert ranks.full.tolist() == [full for full, _ in expected]
    assert ranks.sampled[42].tolist() == [drawn for _, drawn in expected]


@pytest.mark.parametrize("seed", range(3))
def test_cooccurrence_ranks_like_a_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "USERS_AT_ONCE", 7)
    training, contexts, targets, negatives = random_world(seed)
    counts = follows(training)
    matrix = cooccurrence.pairs(training, ITEMS)
    assert matrix.toarray() == pytest.approx(counts)
    expected = []
    for row, target, drawn in zip(contexts, targets, negatives, strict=True):
        scores = sum(matrix.toarray()[item] / (len(row) - place) for place, item in enumerate(row))
        expected.append(brute_force(np.round(scores, 9), row, target, drawn))
    ranks = cooccurrence.rank(Test(training, ITEMS, contexts, targets, {42: negatives}))
    assert ranks.full.tolist() == [rank for rank, _ in expected]
    assert ranks.sampled[42].tolist() == [rank for _, rank in expected]


def test_ties_count_against_the_counter() -> None:
    training = Histories.of([0, 1], [[1, 2], [3, 4]])
    test = Test(training, 5, Histories.of([0], [[1]]), np.array([4], np.int32), {})
    assert popularity.rank(test).full.tolist() == [3]  # 2 and 3 are as popular, 1 is known
    assert cooccurrence.rank(test).full.tolist() == [4]  # nothing leads from 1 to 4, so 2, 3 and 5 stand before it


def test_cooccurrence_counts_what_followed() -> None:
    matrix = cooccurrence.pairs(Histories.of([0, 1], [[1, 2, 3], [1, 3]]), 3).toarray()
    assert matrix[1, 2] == 1 and matrix[2, 3] == 1
    assert matrix[1, 3] == 1.5  # two apart, then next to each other
    assert matrix[3, 1] == 0  # never the other way round
