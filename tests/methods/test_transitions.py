"""The transition graph: who is a candidate, and ranks like a loop over all items."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from counter_world import ITEMS, random_titles, random_world, says

from llmser_tasks.methods import similarity, transitions
from llmser_tasks.methods.counting import Test
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors


def often(training: Histories, items: int) -> np.ndarray:
    counts = np.zeros((items + 1, items + 1))
    for row in training:
        for first, second in pairwise(row):
            counts[first, second] += first != second
    return counts


def loop(counts: np.ndarray, context: np.ndarray, titles: ItemVectors) -> np.ndarray:
    """(I + 1,) scores of one user, 0 for what is no candidate."""
    last = context[-2:]
    mean = titles.vectors[last].sum(axis=0)
    mean = mean / (np.linalg.norm(mean) or 1)
    scores = np.zeros(len(counts))
    for item in range(1, len(counts)):
        share = max(np.log1p(counts[from_, item]) / (np.log1p(counts[from_]).max() or 1) for from_ in last)
        via = any(counts[from_, middle] and counts[middle, item] for from_ in last for middle in range(len(counts)))
        if share or via:
            scores[item] = 2 + (mean @ titles.vectors[item] if titles.titled[item] else -1) + share / 2
    return np.round(scores, 5)


def chains(length: int) -> Histories:
    """One history 1, 2, 3, …"""
    return Histories.of([0], [list(range(1, length + 1))])


def ranks(folder: Path, training: Histories, contexts: list[list[int]], targets: list[int], titled: bool) -> list[int]:
    items = 9
    vectors = np.zeros((items + 1, 2), np.float32)
    vectors[1:, 0] = titled
    ItemVectors(vectors, vectors.any(axis=1)).write(folder)
    asked = Histories.of(range(len(contexts)), contexts)
    test = Test(training, items, asked, np.array(targets, np.int32), {}, {"item-vectors": folder})
    return transitions.rank(test).full.tolist()


@pytest.mark.parametrize("seed", range(1, 4))  # in world 0 two titles are equally close but for the order of sums
@pytest.mark.parametrize("at_once", [7, 4096])
def test_ranks_like_a_loop(tmp_path: Path, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "USERS_AT_ONCE", at_once)
    training, contexts, targets, negatives = random_world(seed)
    training = training.select(np.arange(12))  # few edges, so that not everything is a candidate
    titles, counts = random_titles(tmp_path, seed), often(training, ITEMS)
    assert transitions.transitions(training, ITEMS).toarray() == pytest.approx(counts)
    scores = [loop(counts, context, titles) for context in contexts]
    assert any((row[1:] == 0).any() for row in scores) and any((row > 0).any() for row in scores)
    test = Test(training, ITEMS, contexts, targets, {42: negatives}, {"item-vectors": tmp_path})
    says(transitions.rank(test), test, scores)


def test_candidates_are_a_step_or_two_from_the_last_two_items(tmp_path: Path) -> None:
    contexts = [[1], [1], [1], [7, 1, 8], [7, 1, 8, 8]]
    assert ranks(tmp_path, chains(6), contexts, [2, 3, 4, 2, 2], titled=True) == [1, 2, 8, 1, 6]


def test_a_direct_successor_stands_before_one_that_is_as_close(tmp_path: Path) -> None:
    training = Histories.of(range(3), [[1, 2], [1, 3], [1, 3]])
    assert ranks(tmp_path, training, [[1], [1]], [2, 3], titled=True) == [2, 1]


def test_candidates_without_titles_are_still_candidates(tmp_path: Path) -> None:
    assert ranks(tmp_path, chains(6), [[1], [1], [1]], [2, 3, 4], titled=False) == [1, 2, 8]


def test_who_has_no_history_has_no_candidates(tmp_path: Path) -> None:
    assert ranks(tmp_path, chains(6), [[], [9]], [2, 2], titled=True) == [9, 8]


def test_a_target_that_nothing_leads_to_comes_last(tmp_path: Path) -> None:
    assert ranks(tmp_path, chains(6), [[1]], [9], titled=True) == [8]
