"""Both splits, and what keeps held-out items out of training."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dumps import full, review, titles, write

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.splits import Interactions, Split, leave_one_out, temporal
from llmser_tasks.sequences.targets import Targets, read_targets, write_targets


def interactions(*rows: tuple[int, int, int]) -> Interactions:
    """From (user, item, time), sorted as ingest sorts."""
    users, items, times = zip(*sorted(rows, key=lambda row: (row[0], row[2])), strict=True)
    return Interactions(np.array(users, np.int32), np.array(items, np.int32), np.array(times, np.int64))


def rows(histories: Histories) -> dict[int, list[int]]:
    return {int(user): row.tolist() for user, row in zip(histories.users, histories, strict=True)}


def targets(part: Targets) -> dict[int, tuple[list[int], int]]:
    contexts = rows(part.contexts)
    return {int(user): (contexts[int(user)], int(item)) for user, item in zip(part.users, part.items, strict=True)}


def test_leave_one_out() -> None:
    split = leave_one_out(
        interactions(*[(3, item, item) for item in (1, 2, 3, 4, 5)], *[(8, item, item) for item in (6, 7, 9)])
    )
    assert rows(split.training) == {3: [1, 2, 3], 8: [6]}
    assert targets(split.validation) == {3: ([], 4), 8: ([], 7)}
    assert targets(split.test) == {3: ([4], 5), 8: ([7], 9)}
    assert split.cold == 0
    assert rows(split.test.inputs(split.training)) == {3: [1, 2, 3, 4], 8: [6, 7]}


def test_leave_one_out_refuses_users_that_are_too_short() -> None:
    with pytest.raises(InputError, match="at least 3 interactions"):
        leave_one_out(interactions((0, 1, 1), (0, 2, 2)))


def test_temporal() -> None:
    """Twenty interactions at times 1 … 20: the cuts fall at 16 and 18."""
    split = temporal(
        interactions(
            *[(0, 10 + t, t) for t in range(1, 13)],  # only before the first cut: nothing to predict
            (1, 1, 13),
            (1, 2, 14),
            (1, 3, 17),  # validation target
            (1, 4, 18),  # at the moment of the second cut, so before it
            (1, 5, 20),  # test target
            (2, 6, 15),
            (2, 7, 19),  # test target, nothing between
            (3, 8, 16),  # at the moment of the first cut, so before it
        )
    )
    assert split.cuts == (16, 18)
    assert rows(split.training) == {0: list(range(11, 23)), 1: [1, 2], 2: [6], 3: [8]}
    assert targets(split.validation) == {1: ([], 3)}
    assert targets(split.test) == {1: ([3, 4], 5), 2: ([], 7)}
    assert split.cold == 0


def test_temporal_leaves_cold_users_out_and_counts_them() -> None:
    warm = [(0, 1 + t, t) for t in range(16)] + [(0, 50, 16), (0, 51, 18)]
    split = temporal(interactions(*warm, (1, 60, 17), (2, 61, 18)))
    assert split.cold == 2
    assert list(split.training.users) == [0]
    assert list(split.validation.users) == list(split.test.users) == [0]


def test_temporal_refuses_interactions_that_share_one_time() -> None:
    with pytest.raises(InputError, match="use split leave-one-out"):
        temporal(interactions(*[(0, item, 7) for item in range(1, 20)]))


MANY = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 30)), min_size=1, max_size=60)


@given(MANY)
def test_nothing_is_reordered_or_seen_twice(drawn: list[tuple[int, int, int]]) -> None:
    known = interactions(*drawn)
    whole = {int(user): known.items[known.users == user].tolist() for user in np.unique(known.users)}
    splits: list[Split] = []
    if min(len(row) for row in whole.values()) >= 3:
        splits.append(leave_one_out(known))
    with contextlib.suppress(InputError):
        splits.append(temporal(known))
    for split in splits:
        training = rows(split.training)
        assert len(training) + split.cold == len(whole)
        for user, row in training.items():
            assert row == whole[user][: len(row)]
        for part in (split.validation, split.test):
            for user, (context, item) in targets(part).items():
                seen = training[user] + context + [item]
                assert seen == whole[user][: len(seen)]
        for user, (context, _) in targets(split.test).items():
            held = targets(split.validation).get(user)
            assert (held is None) == (not context)
            assert held is None or context[0] == held[1]
            assert len(training[user]) + len(context) < len(whole[user])


def test_targets_survive_writing(tmp_path: Path) -> None:
    contexts = Histories.of([2, 5, 9], [[], [1, 2], [3]])
    write_targets(tmp_path / "targets.parquet", Targets(contexts.users, contexts, np.array([7, 8, 9], np.int32)))
    assert targets(read_targets(tmp_path / "targets.parquet")) == {2: ([], 7), 5: ([1, 2], 8), 9: ([3], 9)}
    nobody = Histories.of([], [])
    write_targets(tmp_path / "none.parquet", Targets(nobody.users, nobody, np.zeros(0, np.int32)))
    assert len(read_targets(tmp_path / "none.parquet")) == 0


def cut(workspace: Workspace, dataset: Dataset) -> dict[str, Artefact]:
    return sequences(workspace, dataset, ingest(workspace, dataset))


def test_four_artefacts_with_their_files(workspace: Workspace, tmp_path: Path) -> None:
    made = cut(workspace, write(tmp_path, full()))
    training = Histories.read(workspace.folder(made["training"]) / "histories.parquet")
    assert rows(training) == {user: [1, 2] for user in range(4)}
    test = read_targets(workspace.folder(made["test"]) / "targets.parquet")
    assert targets(test) == {user: ([3], 4) for user in range(4)}
    items = pq.read_table(workspace.folder(made["catalogue"]) / "items.parquet").to_pylist()
    assert items[3] == {"item": 4, "item_id": "i3", "title": "Title 3"}
    users = pq.read_table(workspace.folder(made["catalogue"]) / "users.parquet").to_pylist()
    assert users[2] == {"user": 2, "user_id": "u2"}
    assert workspace.summary(made["training"]) == {
        "users": 4,
        "interactions": 8,
        "items": 2,
        "tail_threshold": 2,
        "lengths": {"min": 2, "median": 2, "p80": 2, "max": 2},
        "split": "leave-one-out",
        "cold_users": 0,
        "cuts": None,
    }
    assert workspace.summary(made["test"]) == {"users": 4, "new": 4, "items_never_trained_on": 4}


def test_the_tail_threshold_is_the_datasets_or_the_80th_percentile(workspace: Workspace, tmp_path: Path) -> None:
    lines = full(users=8)
    lines += [review(user, f"i{n % 4}", 200 + n) for user in ("long1", "long2") for n in range(9)]
    own = cut(workspace, write(tmp_path, lines, tail_threshold=5))
    percentile = cut(workspace, write(tmp_path, lines))
    assert workspace.summary(own["training"])["tail_threshold"] == 5
    assert workspace.summary(percentile["training"])["tail_threshold"] == 2  # eight of ten users have n_u = 2
    assert own["training"].content == percentile["training"].content
    assert percentile["validation"].unchanged


def test_the_temporal_split_of_a_dataset(workspace: Workspace, tmp_path: Path) -> None:
    lines = [review(f"u{u}", f"i{(u + i) % 6}", i + u / 10) for u in range(6) for i in range(10)]
    made = cut(workspace, write(tmp_path, lines, titles(6), split="temporal"))
    summary = workspace.summary(made["training"])
    assert summary["interactions"] == 48
    assert summary["cuts"][0] < summary["cuts"][1]
    assert workspace.summary(made["test"])["users"] == 6


def test_a_second_run_makes_nothing_again(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    assert not any(artefact.unchanged for artefact in cut(workspace, dataset).values())
    assert all(artefact.unchanged for artefact in cut(workspace, dataset).values())


@pytest.mark.parametrize("seed", [1, 2])
def test_training_and_catalogue_do_not_know_the_held_out_items(workspace: Workspace, tmp_path: Path, seed: int) -> None:
    """Permute the users' last two items among users: the catalogue and its counts stay, the held-out items do not."""
    random = np.random.default_rng(seed)
    careers = [[int(item) for item in random.integers(0, 15, size=random.integers(3, 9))] for _ in range(40)]

    def dump(careers: list[list[int]]) -> list[dict]:
        return [review(f"u{u}", f"i{i}", 10 * n + u / 50) for u, row in enumerate(careers) for n, i in enumerate(row)]

    shuffled = random.permutation(len(careers))
    exchanged = [row[:-2] + careers[other][-2:] for row, other in zip(careers, shuffled, strict=True)]
    settings = {"user_core": 1, "item_core": 1}
    before = cut(workspace, write(tmp_path / "before", dump(careers), titles(15), **settings))
    after = cut(workspace, write(tmp_path / "after", dump(exchanged), titles(15), **settings))
    for name in ("training", "catalogue"):
        assert before[name].content == after[name].content
        for path in workspace.folder(before[name]).glob("*.parquet"):
            assert path.read_bytes() == (workspace.folder(after[name]) / path.name).read_bytes()
        assert workspace.summary(before[name]) == workspace.summary(after[name])
    for name in ("validation", "test"):
        assert before[name].content != after[name].content


def test_the_training_folder_holds_nothing_held_out(workspace: Workspace, tmp_path: Path) -> None:
    lines = [*full(), *[review(f"u{u}", "i9", 900 + u) for u in range(4)]]  # i9 is everybody's test item
    made = cut(workspace, write(tmp_path, lines, titles(10)))
    training = Histories.read(workspace.folder(made["training"]) / "histories.parquet")
    assert training.items.max() == 3
    assert {path.name for path in workspace.folder(made["training"]).iterdir()} == {
        "histories.parquet",
        "manifest.json",
    }
