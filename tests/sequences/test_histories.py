"""Histories: where the same one stands among others."""

from __future__ import annotations

from llmser_tasks.sequences.histories import Histories


def test_the_same_user_with_the_same_items_is_found() -> None:
    ours = Histories.of([1, 3, 4, 6, 9], [[5], [5, 6], [], [7, 8], [9]])
    others = Histories.of([0, 1, 3, 4, 6], [[5], [5], [6, 5], [], [7, 8]])
    row, there = ours.found_in(others)
    assert (row.tolist(), there.tolist()) == ([0, 2, 3], [1, 3, 4])


def test_nobody_is_found_among_none() -> None:
    ours, nobody = Histories.of([1, 3], [[5], [5, 6]]), Histories.of([], [])
    assert [len(rows) for rows in (*ours.found_in(nobody), *nobody.found_in(ours))] == [0, 0, 0, 0]
