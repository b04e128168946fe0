"""What changed between two runs, by the ids that users and items had in the dumps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.sequences.changes import TAKEN_AWAY, Changes, compare
from llmser_tasks.sequences.histories import Histories

BEFORE = {"ann": ["b", "c"], "bob": ["c"], "dan": ["d", "b", "b"]}


def made(workspace: Workspace, people: Mapping[str, list[str]], name: str) -> tuple[Artefact, Artefact]:
    """Training histories and the catalogue of these users, numbered as ingest does."""
    users, items = sorted(people), sorted({item for row in people.values() for item in row})

    def histories(folder: Any) -> dict[str, Any]:
        rows = [[items.index(item) + 1 for item in people[user]] for user in users]
        Histories.of(range(len(users)), rows).write(folder / "histories.parquet")
        return {}

    def catalogue(folder: Any) -> dict[str, Any]:
        numbers = pa.array(np.arange(len(users)), pa.int32())
        pq.write_table(pa.table({"user": numbers, "user_id": users}), folder / "users.parquet")
        numbers = pa.array(np.arange(1, len(items) + 1), pa.int32())
        pq.write_table(pa.table({"item": numbers, "item_id": items, "title": items}), folder / "items.parquet")
        return {}

    common: dict[str, Any] = {"inputs": {"name": name}, "config": {}}
    return (
        workspace.produce("training", "tiny", histories, **common),
        workspace.produce("catalogue", "tiny", catalogue, **common),
    )


def compared(
    workspace: Workspace,
    now: Mapping[str, list[str]],
    settled: set[str] | None = None,
    before: Mapping[str, list[str]] = BEFORE,
) -> tuple[Changes, dict[str, Any]]:
    training, catalogue = made(workspace, now, "now")
    old_training, old_catalogue = made(workspace, before, "before")
    artefact = compare(
        workspace,
        "tiny",
        training=training,
        catalogue=catalogue,
        former_training=old_training,
        former_catalogue=old_catalogue,
        settled=settled,
    )
    return Changes.read(workspace.folder(artefact)), workspace.summary(artefact)


def test_users_and_items_are_found_again_by_their_ids(workspace: Workspace) -> None:
    changes, summary = compared(workspace, BEFORE | {"abe": ["a", "a"], "bob": ["c", "e"]})
    assert summary == {"kept": 2, "changed": 1, "new": 1, "new_items": 2, "obstacle": None}
    assert changes.former.tolist() == [-1, 0, 1, 2]  # abe, ann, bob, dan
    assert changes.kept.tolist() == [False, True, False, True]
    assert changes.former_items.tolist() == [0, 0, 1, 2, 3, 0]  # a is new, b c d moved on, e is new
    assert changes.items.tolist() == [0, 2, 3, 4]


def test_who_got_no_answer_counts_as_changed(workspace: Workspace) -> None:
    changes, summary = compared(workspace, BEFORE, settled={"ann", "bob"})
    assert changes.kept.tolist() == [True, True, False] and summary["changed"] == 1


@pytest.mark.parametrize(
    ("now", "obstacle"),
    [
        ({}, None),
        ({"dan": ["b", "d", "b"]}, None),  # another order, the same items
        ({"dan": ["d", "b", "c", "b"]}, None),  # late, in between
        ({"dan": ["d", "b"]}, TAKEN_AWAY),  # one b of two is gone: it may be held out now
        ({"dan": ["d", "b", "c"]}, TAKEN_AWAY),
        ({"ann": ["b", "d"]}, TAKEN_AWAY),
    ],
)
def test_nothing_is_kept_where_the_earlier_run_learned_from_what_is_no_training_data_now(
    workspace: Workspace, now: dict[str, list[str]], obstacle: str | None
) -> None:
    assert compared(workspace, BEFORE | now)[1]["obstacle"] == obstacle


def test_nothing_is_kept_where_users_are_gone(workspace: Workspace) -> None:
    now = {user: items for user, items in BEFORE.items() if user != "bob"}
    assert compared(workspace, now)[1]["obstacle"] == TAKEN_AWAY
