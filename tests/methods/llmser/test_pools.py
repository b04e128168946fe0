"""Pools of several sources: title neighbours of the beginning, equal shares, and who need not be trained for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import DATASET, World, make_world, read, walks

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import silent
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import similarity
from llmser_tasks.methods.asrep import prior_items
from llmser_tasks.methods.llmser import ccg, parts, reverse
from llmser_tasks.methods.llmser.pools import titles
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import Pools, interleaved
from llmser_tasks.texts.vectors import ItemVectors


def plane(*degrees: float | None) -> ItemVectors:
    """Items 1 … whose titles point there; None: no title."""
    angles = np.array([np.nan, *(np.nan if angle is None else np.deg2rad(angle) for angle in degrees)])
    vectors = np.nan_to_num(np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
    return ItemVectors(vectors, ~np.isnan(angles))


def embedded(workspace: Workspace, vectors: ItemVectors) -> Artefact:
    def write(folder: Path) -> dict[str, Any]:
        vectors.write(folder)
        return {}

    return workspace.produce("item-vectors", DATASET, write, inputs={}, config={"v": vectors.vectors.tolist()})


def neighbours(workspace: Workspace, vectors: ItemVectors, histories: list[list[int]], size: int) -> list[list[int]]:
    world = make_world(workspace, dict(enumerate(histories)), ["t"] * (len(vectors.titled) - 1))
    refs = world.refs(**{"item-vectors": embedded(workspace, vectors)})
    items, scores = titles.propose(world.run(), refs, world.histories, size, silent)
    assert ((items == 0) == np.isneginf(scores)).all()
    assert all((np.diff(row[row > -np.inf]) <= 0).all() for row in scores)
    return [row[row > 0].tolist() for row in items]


def test_title_neighbours_are_those_of_the_beginning(workspace: Workspace) -> None:
    vectors = plane(0, 90, 10, 80, 20)
    assert neighbours(workspace, vectors, [[1, 2], [2, 1]], 2) == [[5, 3], [4, 5]]


def test_title_neighbours_leave_out_the_history_and_what_has_no_title(workspace: Workspace) -> None:
    vectors = plane(0, None, 30, 0, 0, 60)
    found = neighbours(workspace, vectors, [[1], [1, 2, 4], [2], [2, 1]], 9)
    assert found == [[4, 5, 3, 6], [5, 3, 6], [], [4, 5, 3, 6]], "equal titles by id; nothing for nobody's title"


@pytest.mark.parametrize("seed", range(3))
def test_title_neighbours_like_a_loop(workspace: Workspace, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "USERS_AT_ONCE", 7)
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(31, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, 4, 9]] = 0
    vectors[[11, 20]] = vectors[3]
    items = ItemVectors(vectors, vectors.any(axis=1))
    histories = [random.integers(1, 31, random.integers(1, 6)).tolist() for _ in range(20)]
    for history, found in zip(histories, neighbours(workspace, items, histories, 8), strict=True):
        taste = sum(vectors[item] / place for place, item in enumerate(history, start=1))
        cosines = np.round(vectors @ taste, 5)
        able = [item for item in range(1, 31) if items.titled[item] and item not in history]
        expected = sorted(able, key=lambda item: (-cosines[item], item))[:8]
        assert found == (expected if items.titled[history].any() else [])


def pools(*rows: list[int]) -> Pools:
    width = max(map(len, rows))
    items = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
    return items, np.where(items > 0, -items, -np.inf).astype(np.float32)


def test_sources_take_turns_and_an_item_counts_once(workspace: Workspace) -> None:
    items, scores = interleaved([pools([1, 2, 3, 4]), pools([2, 5, 6, 7])], 5)
    assert items.tolist() == [[1, 2, 5, 3, 6]]
    assert scores.tolist() == [[-1, -2, -5, -3, -6]]


def test_where_a_source_ends_the_others_fill_its_share(workspace: Workspace) -> None:
    items, scores = interleaved([pools([1], [], []), pools([5, 6, 1], [7, 8, 9], []), pools([4], [7], [])], 4)
    assert items.tolist() == [[1, 5, 4, 6], [7, 8, 9, 0], [0, 0, 0, 0]]
    assert np.isneginf(scores[items == 0]).all()


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return make_world(workspace, walks(40, 12), [f"thing {n}" for n in range(12)])


def lists(world: World, made: Artefact) -> list[list[int]]:
    found: list[list[int]] = read(world.workspace, made, "pools.parquet")["items"].to_pylist()
    return found


def test_a_joined_pool_has_equal_shares_of_each(world: World) -> None:
    vectors = embedded(world.workspace, plane(*range(0, 120, 10)))
    refs = world.refs(**{"reverse": reverse.make(world.run(), world.refs()), "item-vectors": vectors})

    def made(*sources: str) -> list[list[int]]:
        run = world.run(pool=4, pseudo_items=2, pool_from=list(sources))
        return lists(world, ccg.make(run, refs))

    paper, near, joined = made("ccg"), made("titles"), made("ccg", "titles")
    assert paper != near
    for row, history in enumerate(world.histories):
        in_turn = [item for pair in zip(paper[row], near[row], strict=True) for item in pair]
        assert joined[row] == list(dict.fromkeys(in_turn))[: len(joined[row])]
        assert len(set(joined[row])) == len(joined[row]) == 4 and not set(joined[row]) & set(history.tolist())
    again = ccg.make(world.run(pool=4, pseudo_items=2, pool_from=["titles", "ccg"]), refs)
    assert again.unchanged, "the order in which they are named means nothing"


def test_pools_without_ccg_train_no_reverse_model(world: World) -> None:
    run = world.run(pool=4, pseudo_items=2, pool_from=["titles"])
    assert parts.left_out(parts.REVERSE, run.config) == "CCG"
    refs = world.refs(**{"item-vectors": embedded(world.workspace, plane(*range(0, 120, 10)))})
    assert all(len(row) == 4 for row in lists(world, ccg.make(run, refs)))
    with pytest.raises(InputError, match="a run without CCG does not have; take CCG back in"):
        prior_items.check(run, refs)


def test_random_items_take_the_share_of_a_ccg_that_is_left_out(world: World) -> None:
    refs = world.refs(**{"item-vectors": embedded(world.workspace, plane(*range(0, 120, 10)))})

    def made(**settings: Any) -> list[list[int]]:
        return lists(world, ccg.make(world.run(pool=4, pseudo_items=2, without=["ccg"], **settings), refs))

    random, joined = made(), made(pool_from=["ccg", "titles"])
    assert [row[0] for row in random] == [row[0] for row in joined] and random != joined


def test_histories_of_nobody_are_no_trouble(workspace: Workspace) -> None:
    world = make_world(workspace, {0: [1]}, ["t", "u"])
    refs = world.refs(**{"item-vectors": embedded(workspace, plane(0, 10))})
    items, _ = titles.propose(world.run(), refs, Histories.of([], []), 3, silent)
    assert items.shape == (0, 3)
