"""Interactions of one user that share a time: their order carries no information, and what arrives later moves none."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise
from pathlib import Path

import pytest
from small_dumps import DAY, START, Ingested, full, review, titles, write

from llmser_tasks.core.workspace import Workspace
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.changes import compare
from llmser_tasks.sequences.histories import Histories

USERS, ITEMS = 60, 6


def one_day(users: int = USERS, items: int = ITEMS, day: float = 7) -> list[dict]:
    """Everybody buys everything on one day, in the file by user and item."""
    return [review(f"u{u:02d}", f"i{i}", day) for u in range(users) for i in range(items)]


def ingested(workspace: Workspace, folder: Path, lines: list, **settings: object) -> Ingested:
    return Ingested(workspace, write(folder, lines, titles(ITEMS), **settings))


def orders(done: Ingested) -> list[tuple[str, ...]]:
    return [tuple(done.bought(row["user_id"])) for row in done.users]


def test_the_order_of_ties_says_nothing_of_the_file_or_the_items(workspace: Workspace, tmp_path: Path) -> None:
    done = ingested(workspace, tmp_path, one_day())
    rising = sum(a < b for order in orders(done) for a, b in pairwise(order))
    assert 0.4 < rising / (USERS * (ITEMS - 1)) < 0.6  # of 300; in the file all ascend
    assert len(set(orders(done))) > USERS / 2  # it differs from user to user: no item comes before another in general
    lasts = [order[-1] for order in orders(done)]
    assert all(lasts.count(f"i{i}") < USERS / 3 for i in range(ITEMS))


def test_it_is_a_hash_of_user_item_and_time(workspace: Workspace, tmp_path: Path) -> None:
    def key(user: str, item: str, day: int) -> str:
        return hashlib.md5(f"ties\x1f{user}\x1f{item}\x1f{(START + day * DAY) * 1000}".encode()).hexdigest()

    done = ingested(workspace, tmp_path, one_day() + one_day(day=9))
    for user in ("u00", "u01", "u17"):
        one, two = (sorted((f"i{i}" for i in range(ITEMS)), key=lambda i: key(user, i, day)) for day in (7, 9))
        assert done.bought(user) == one + two and one != two


def test_neither_the_order_of_lines_nor_what_else_is_in_the_dump_moves_a_tie(
    workspace: Workspace, tmp_path: Path
) -> None:
    lines = one_day()
    before = orders(ingested(workspace, tmp_path / "one", lines))
    random.Random(1).shuffle(lines)
    more = [review(f"a{u}", f"i{i}", u) for u in range(9) for i in range(ITEMS)]
    after = ingested(workspace, tmp_path / "two", more + lines, user_core=4)
    assert [tuple(after.bought(f"u{u:02d}")) for u in range(USERS)] == before


def test_a_late_interaction_of_the_same_moment_moves_none_past_another(workspace: Workspace, tmp_path: Path) -> None:
    lines = [line for line in one_day() if line["asin"] != f"i{int(line['reviewerID'][1:]) % ITEMS}"]
    late = [line for line in one_day() if line not in lines]
    rest = ingested(workspace, tmp_path / "one", lines)
    whole = ingested(workspace, tmp_path / "two", lines + late)
    for user in (f"u{u:02d}" for u in range(USERS)):
        mine = f"i{int(user[1:]) % ITEMS}"
        assert [item for item in whole.bought(user) if item != mine] == rest.bought(user)


@pytest.mark.parametrize("ties", ["hash", "file"])
def test_a_refresh_with_interactions_of_the_same_moment_keeps_what_was_learned(
    workspace: Workspace, tmp_path: Path, ties: str
) -> None:
    """Whoever got a late interaction of that day may be trained on other items now, but on none that is a target."""
    late = [line for line in one_day() if line["asin"] == "i3" and line["reviewerID"] < "u30"]
    lines = [line for line in one_day() if line not in late]
    made = []
    for name, dump in (("one", lines), ("two", lines + late)):
        dataset = write(tmp_path / name, dump, titles(ITEMS), ties=ties)
        made.append(sequences(workspace, dataset, Ingested(workspace, dataset).artefact))
    before, now = made
    compared = compare(
        workspace,
        "test",
        training=now["training"],
        catalogue=now["catalogue"],
        former_training=before["training"],
        former_catalogue=before["catalogue"],
    )
    summary = workspace.summary(compared)
    assert summary["obstacle"] is None and summary["kept"] == USERS - 30
    lengths = Histories.read(workspace.folder(now["training"]) / "histories.parquet").lengths
    assert lengths.tolist() == [ITEMS - 2] * USERS


@pytest.mark.parametrize("ties", ["hash", "file"])
def test_the_report_says_how_much_of_the_order_is_open(workspace: Workspace, tmp_path: Path, ties: str) -> None:
    lines = [*full(), review("u0", "i0", 30), review("u1", "i1", 11), review("u2", "i0", 5), review("u2", "i1", 5)]
    done = ingested(workspace, tmp_path, lines, ties=ties)
    # u0: i3 and i0 on day 30; u1: i1 twice on day 11, once after dedup; u2: two on day 5
    assert done.report["ties"] == {"order": ties, "moments": 2, "neighbours": 2 / 15, "last_items": 1 / 4}
    assert done.summary["ties"] == done.report["ties"]
