"""Early stopping's targets must be outside of what the model trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmser_tasks.methods.held_out import HELD, note_held, share_of_users, split_last, still_held
from llmser_tasks.sequences.changes import Changes
from llmser_tasks.sequences.histories import Histories

sequences = st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=12)


@given(sequences, st.integers(0, 3))
def test_a_held_item_is_watched_or_dropped_but_never_trained_on(rows: list[list[int]], seed: int) -> None:
    histories = Histories.of(range(len(rows)), rows)
    held = np.random.default_rng(seed).random(len(rows)) < 0.5
    trained, watch = split_last(histories, held)
    kept = dict(zip(trained.users.tolist(), map(list, trained), strict=True))
    for user, row in enumerate(rows):
        expected = row[:-1] if held[user] else row
        assert kept.get(user, []) == expected
    contexts = dict(zip(watch.contexts.users.tolist(), map(list, watch.contexts), strict=True))
    targets = dict(zip(watch.contexts.users.tolist(), watch.targets.tolist(), strict=True))
    new = {user for user, row in enumerate(rows) if len(row) >= 2 and row[-1] not in row[:-1]}
    assert set(contexts) == {user for user in new if held[user]}
    for user in contexts:
        assert [*contexts[user], targets[user]] == rows[user]
    assert list(map(list, watch.exclude)) == list(map(list, watch.contexts))


def test_of_a_reversed_history_the_first_item_is_held() -> None:
    histories = Histories.of([4, 7], [[1, 2, 3], [5, 6]])
    trained, watch = split_last(histories.reverse(), np.array([True, False]))
    assert [list(row) for row in trained] == [[3, 2], [6, 5]]
    assert watch.targets.tolist() == [1]
    assert watch.contexts.users.tolist() == [4]


def test_share_is_seeded_and_takes_only_users_with_an_item_to_spare() -> None:
    histories = Histories.of(range(100), [[1]] * 50 + [[1, 2]] * 50)
    mask = share_of_users(histories, 0.2, 42)
    assert mask.sum() == 10
    assert not mask[:50].any()
    assert (mask == share_of_users(histories, 0.2, 42)).all()
    assert (mask != share_of_users(histories, 0.2, 43)).any()


def test_share_is_at_least_one_user_where_there_is_one() -> None:
    assert share_of_users(Histories.of([1, 2], [[1, 2], [3]]), 0.01, 0).tolist() == [True, False]
    assert not share_of_users(Histories.of([1, 2], [[1], [3]]), 0.5, 0).any()


def test_a_training_that_goes_on_holds_out_what_the_earlier_one_did(tmp_path: Path) -> None:
    """Users 0–3 were there before (as 10–13), 1 and 3 held out; 4 and 5 are new; 3 has nothing to spare any more."""
    before = Histories.of([10, 11, 12, 13], [[1, 2]] * 4)
    note_held(tmp_path, before, np.array([False, True, False, True]))
    now = Histories.of(range(6), [[1, 2]] * 3 + [[1]] + [[1, 2]] * 2)
    nothing = np.zeros(1, np.int64)
    changes = Changes(now.users, np.array([10, 11, 12, 13, -1, -1], np.int32), np.zeros(6, bool), nothing, nothing)
    held = still_held(now, changes, tmp_path / HELD, 0.5, 0)
    assert held[:4].tolist() == [False, True, False, False]
    assert held[4:].sum() == 1, "of the new users a share"
