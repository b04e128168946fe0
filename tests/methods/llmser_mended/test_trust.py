"""ω above chance: what a random candidate would have is taken off."""

from __future__ import annotations

import numpy as np
import pytest

from llmser_tasks.methods.llmser_mended import trust
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors


def items(*degrees: float | None) -> ItemVectors:
    """Items 1 … whose titles point there; None: no title."""
    angles = np.array([np.nan, *(np.nan if angle is None else np.deg2rad(angle) for angle in degrees)])
    vectors = np.nan_to_num(np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
    return ItemVectors(vectors, ~np.isnan(angles))


def above(masked: list[int], named: list[int], pools: list[list[int]], vectors: ItemVectors) -> list[float]:
    made = Histories.of(range(len(pools)), pools)
    return trust.above_chance(np.array(masked, np.int32), np.array(named, np.int32), made, vectors).tolist()


def test_chance_is_taken_off_and_the_rest_rescaled() -> None:
    vectors = items(0, 60, 90, 0)  # cosines to item 1: 1, .5, 0, 1
    pool = [2, 3]  # c₀ = .25
    assert above([1], [2], [pool], vectors) == pytest.approx([(0.5 - 0.25) / 0.75])
    assert above([1], [3], [pool], vectors) == [0.0]
    assert above([1], [1], [[2, 3, 1]], vectors) == [1.0], "the masked item itself, whatever chance was"
    assert above([1], [4], [[2, 4]], vectors) == pytest.approx([1.0]), "or one of the same title"


def test_whoever_guesses_among_candidates_that_are_all_alike_is_not_trusted() -> None:
    vectors = items(0, 0, 0)
    assert above([1, 1], [2, 1], [[2, 3], [1, 2]], vectors) == [0.0, 0.0]


def test_nothing_named_and_candidates_without_a_title_count_for_nothing() -> None:
    vectors = items(0, 60, 90, None)
    assert above([1, 1], [0, 2], [[2], [2, 4, 3]], vectors) == pytest.approx([0.0, 1 / 3])


def test_an_opposite_direction_is_no_less_than_none() -> None:
    vectors = items(0, 180, 60)
    assert above([1], [3], [[2, 3]], vectors) == pytest.approx([1 / 3]), "c₀ is .25, as ω is clamped too"


@pytest.mark.parametrize("at_once", [1, 3])
def test_more_pairs_than_are_multiplied_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vectors = items(*random.uniform(0, 90, 9).tolist())
    masked, named = random.integers(1, 10, 6), random.integers(1, 10, 6)
    pools = [random.permutation(9)[:4] + 1 for _ in range(6)]
    whole = above(masked.tolist(), named.tolist(), [row.tolist() for row in pools], vectors)
    monkeypatch.setattr(trust, "ROWS", at_once)
    assert above(masked.tolist(), named.tolist(), [row.tolist() for row in pools], vectors) == whole
