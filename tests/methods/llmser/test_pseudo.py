"""Pseudo-prior items: the likeliest stands next to v_1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tiny_world import make_lists, make_world, read

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.llmser import pseudo
from llmser_tasks.sequences.histories import Histories

POOLS = {0: [5, 6, 7, 8], 3: [1, 2], 4: []}
Make = Callable[..., Artefact]


def picks(**chosen: list[int]) -> Picks:
    """u0=[7, 5]: user 0 has these, likeliest first."""
    users = {int(name[1:]): items for name, items in chosen.items()}
    items = Histories.of(list(users), list(users.values()))
    return Picks(
        "snf",
        "r1",
        items,
        np.array(["strict"] * len(items.items), object),
        np.array([None if row else "no usable answer" for row in users.values()], object),
    )


@pytest.fixture
def make(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Make:
    world = make_world(workspace, {0: [1], 3: [3], 4: [4]}, ["t"] * 8)
    refs = world.refs(ccg=make_lists(workspace, "ccg", "pools.parquet", POOLS))

    def run(chosen: Picks | None, **settings: object) -> Artefact:
        monkeypatch.setattr(Picks, "of_run", lambda run, refs, step: chosen)
        without = [] if chosen else ["snf"]
        return pseudo.make(world.run(**{"pseudo_items": 3, "without": without} | settings), refs)

    return run


def rows(workspace: Workspace, artefact: Artefact) -> list[tuple[list[int], list[str], str | None]]:
    table = read(workspace, artefact, "pseudo.parquet")
    assert table["user"].to_pylist() == [0, 3, 4]
    return list(zip(*(table[name].to_pylist() for name in ("items", "sources", "reason")), strict=True))


def test_the_likeliest_comes_last_and_every_user_has_a_row(make: Make, workspace: Workspace) -> None:
    made = rows(workspace, make(picks(u0=[7, 5, 8], u3=[2], u4=[])))
    assert made == [
        ([8, 5, 7], ["strict"] * 3, None),
        ([2], ["strict"], None),
        ([], [], "no usable answer"),
    ]
    enhanced = Histories.of([0], [[1, 2]]).after(Histories.of([0], [made[0][0]]))
    assert list(enhanced[0]) == [8, 5, 7, 1, 2]


def test_fill_completes_a_short_answer_with_less_likely_items_but_never_a_missing_one(
    make: Make, workspace: Workspace
) -> None:
    made = rows(workspace, make(picks(u0=[6], u3=[], u4=[]), fill=True))
    assert made[0] == ([7, 5, 6], ["fill", "fill", "strict"], None)
    assert made[1] == ([], [], "no usable answer")


def test_without_snf_the_first_m_of_the_pool_are_taken(make: Make, workspace: Workspace) -> None:
    assert rows(workspace, make(None)) == [
        ([7, 6, 5], ["ccg"] * 3, None),
        ([2, 1], ["ccg"] * 2, None),
        ([], [], "CCG found no candidate"),
    ]


def test_the_artefact_follows_what_was_picked(make: Make) -> None:
    first = make(picks(u0=[7, 5], u3=[2], u4=[]))
    assert make(picks(u0=[7, 5], u3=[2], u4=[])).unchanged
    assert not make(picks(u0=[5, 7], u3=[2], u4=[])).unchanged
    assert make(picks(u0=[5, 7], u3=[2], u4=[])).content != first.content


def test_users_that_were_not_asked_are_an_error(make: Make) -> None:
    with pytest.raises(InputError, match="1 of 3 users of run r1 have not been through snf yet"):
        make(picks(u0=[7], u3=[2]))


def test_of_more_that_were_asked_for_the_likeliest_m_are_kept(make: Make, workspace: Workspace) -> None:
    everything = picks(u0=[7, 5, 8, 6], u3=[2, 1], u4=[])
    assert rows(workspace, make(everything, pseudo_items=2, asked_items=4))[0] == ([5, 7], ["strict"] * 2, None)
    assert rows(workspace, make(everything, pseudo_items=4, asked_items=4))[0][0] == [6, 8, 5, 7]
