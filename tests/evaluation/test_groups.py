from __future__ import annotations

import numpy as np

from llmser_tasks.evaluation.groups import COLD, groups
from llmser_tasks.sequences.head_items import head_items

COUNTS = np.array([0, 9, 1, 7, 1, 1, 0, 1, 8, 1, 1])  # items 1 … 10; 1 and 8 are the top fifth


def test_users_are_tail_up_to_and_including_the_threshold() -> None:
    found = groups(np.array([1, 3, 4, 9]), np.array([2, 2, 2, 2], np.int32), COUNTS, tail_threshold=3)
    assert found["tail users"].tolist() == [True, True, False, False]
    assert found["head users"].tolist() == [False, False, True, True]


def test_targets_are_head_in_the_top_fifth_by_training_count() -> None:
    found = groups(np.array([1, 1, 1, 1]), np.array([1, 8, 3, 6], np.int32), COUNTS, tail_threshold=3)
    assert found["head items"].tolist() == [True, True, False, False]
    assert found["tail items"].tolist() == [False, False, True, True]


def test_a_target_that_nobody_had_in_training_is_cold_and_stays_a_tail_item() -> None:
    found = groups(np.array([1, 1, 1]), np.array([1, 2, 6], np.int32), COUNTS, tail_threshold=3)
    assert found[COLD].tolist() == [False, False, True]
    assert found["tail items"].tolist() == [False, True, True]


def test_an_item_nobody_bought_in_training_is_no_head_item() -> None:
    assert not head_items(np.array([0, 0, 0, 0, 0, 0])).any()


def test_equal_counts_are_head_by_item_id() -> None:
    assert np.flatnonzero(head_items(np.array([0, 2, 2, 2, 2, 2]))).tolist() == [1]


def test_length_groups_share_the_users_out() -> None:
    n = np.array([1, 2, 3, 4, 5, 6, 9, 10, 200])
    found = groups(n, np.ones(len(n), np.int32), COUNTS, tail_threshold=3)
    lengths = {name: n[users].tolist() for name, users in found.items() if name.startswith("n")}
    assert lengths == {"n=1": [1], "n=2": [2], "n=3": [3], "n=4–5": [4, 5], "n=6–9": [6, 9], "n≥10": [10, 200]}
    assert found["all"].all()


def test_empty_groups_are_left_out() -> None:
    found = groups(np.array([2]), np.array([1], np.int32), COUNTS, tail_threshold=3)
    assert list(found) == ["all", "tail users", "head items", "n=2"]
