"""Title neighbours: ranks like a loop over all items, and what becomes of those without a title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from counter_world import ITEMS, random_titles, random_world, says

from llmser_tasks.methods import similarity, title_neighbours
from llmser_tasks.methods.counting import Test
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors


def asked(folder: Path, contexts: list[list[int]], targets: list[int], titles: ItemVectors) -> list[int]:
    """Full ranks of these targets."""
    titles.write(folder)
    users = range(len(contexts))
    test = Test(
        Histories.of([0], [[1]]),
        len(titles.titled) - 1,
        Histories.of(users, contexts),
        np.array(targets, np.int32),
        {42: np.zeros((len(targets), 2), np.int32)},
        {"item-vectors": folder},
    )
    ranks = title_neighbours.rank(test)
    assert ranks.sampled[42].tolist() == [1] * len(targets), "0 is no negative"
    return ranks.full.tolist()


def plane(*degrees: float | None) -> ItemVectors:
    """Items 1 … whose titles point there; None: no title."""
    angles = np.array([np.nan, *(np.nan if angle is None else np.deg2rad(angle) for angle in degrees)])
    vectors = np.nan_to_num(np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
    return ItemVectors(vectors, ~np.isnan(angles))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("at_once", [7, 4096])
def test_ranks_like_a_loop(tmp_path: Path, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "USERS_AT_ONCE", at_once)
    training, contexts, targets, negatives = random_world(seed)
    titles = random_titles(tmp_path, seed)
    scores = []
    for row in contexts:
        weights = [1 / (len(row) - place) for place in range(len(row))]
        near = titles.vectors @ sum(weight * titles.vectors[item] for weight, item in zip(weights, row, strict=True))
        known = titles.titled[row].any()
        scores.append(np.where(titles.titled, np.round(near, 5), -np.inf) if known else np.zeros(ITEMS + 1))
    assert not all(titles.titled[targets]), "a target without a title is among them"
    test = Test(training, ITEMS, contexts, targets, {42: negatives}, {"item-vectors": tmp_path})
    says(title_neighbours.rank(test), test, scores)


def test_the_latest_item_counts_most(tmp_path: Path) -> None:
    titles = plane(0, 90, 10, 80)
    assert asked(tmp_path, [[1, 2], [2, 1]], [4, 4], titles) == [1, 2]


def test_equal_titles_are_ties_whatever_stands_between_them(tmp_path: Path) -> None:
    titles = plane(0, 20, *np.linspace(100, 260, 90).tolist(), 20, 20)
    assert asked(tmp_path, [[1]] * 3, [2, 93, 94], titles) == [3, 3, 3]


def test_a_target_without_a_title_comes_last(tmp_path: Path) -> None:
    assert asked(tmp_path, [[1], [1, 3]], [3, 4], plane(0, 180, None, None)) == [3, 2]


def test_an_item_without_a_title_never_stands_before_one_that_has_one(tmp_path: Path) -> None:
    assert asked(tmp_path, [[1]], [2], plane(0, 180, None, None)) == [1]


def test_to_whom_nothing_is_known_everything_is_equally_near(tmp_path: Path) -> None:
    assert asked(tmp_path, [[], [3]], [2, 2], plane(0, 20, None, 50)) == [4, 3]


def test_a_catalogue_without_any_title(tmp_path: Path) -> None:
    assert asked(tmp_path, [[1], []], [2, 3], plane(None, None, None)) == [2, 3]
