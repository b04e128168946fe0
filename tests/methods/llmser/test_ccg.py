"""CCG: pools in rank order without the history, and knobs that rerun only what depends on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import World, make_world, read, walks

from llmser_tasks import recommenders
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.llmser import ccg, reverse
from llmser_tasks.sequences.histories import Histories

ITEMS = 12


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return make_world(workspace, walks(40, ITEMS), [f"thing {n}" for n in range(ITEMS)])


def train(world: World, **settings: Any) -> Artefact:
    return reverse.make(world.run(**settings), world.refs())


def pools(world: World, model: Artefact | None, size: int = 5, **settings: Any) -> Artefact:
    settings |= {} if model else {"without": ["ccg"]}
    return ccg.make(world.run(pool=size, pseudo_items=2, **settings), world.refs(reverse=model))


def test_pools_are_the_reverse_models_best_in_rank_order_without_the_history(world: World) -> None:
    model = train(world)
    table = read(world.workspace, pools(world, model), "pools.parquet")
    loaded = recommenders.load(world.workspace.folder(model))
    best, _ = recommenders.top_k(loaded, world.histories.reverse(), ITEMS, world.histories)
    for row, (user, items, scores) in enumerate(
        zip(*(table[name].to_pylist() for name in ("user", "items", "scores")), strict=True)
    ):
        assert user == world.histories.users[row]
        assert items == [item for item in best[row].tolist() if item][:5]
        assert not set(items) & set(world.histories[row].tolist())
        assert scores == sorted(scores, reverse=True)


def test_held_out_first_items_are_not_in_the_reverse_models_training(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Histories | recommenders.Watch] = {}

    def spy(*arguments: Any, watch: recommenders.Watch, **rest: object) -> recommenders.TrainingSummary:
        (term,) = arguments[1]
        assert isinstance(term.sequences, Histories)
        seen.update(histories=term.sequences, watch=watch)
        return genuine(*arguments, watch=watch, **rest)

    genuine = recommenders.train
    monkeypatch.setattr(recommenders, "train", spy)
    train(world)
    histories, watch = seen["histories"], seen["watch"]
    assert isinstance(histories, Histories)
    assert isinstance(watch, recommenders.Watch)
    eligible = (world.histories.lengths >= 2).sum()
    assert len(watch.targets) == round(0.1 * eligible)
    full = dict(zip(world.histories.users.tolist(), map(list, world.histories.reverse()), strict=True))
    trained = dict(zip(histories.users.tolist(), map(list, histories), strict=True))
    for user, target in zip(watch.contexts.users.tolist(), watch.targets.tolist(), strict=True):
        assert [*trained.pop(user), target] == full[user]
    assert all(row == full[user] for user, row in trained.items())


def test_changing_n_keeps_the_model_and_remakes_the_pools(world: World) -> None:
    model = train(world)
    assert not pools(world, model, 5).unchanged
    assert train(world).unchanged
    assert not pools(world, model, 6).unchanged
    assert pools(world, model, 5).unchanged
    assert not train(world, held_out_users=0.3).unchanged


def test_without_ccg_pools_are_random_seeded_per_user_and_hold_no_history(world: World) -> None:
    first = read(world.workspace, pools(world, None), "pools.parquet")["items"].to_pylist()
    for row, items in enumerate(first):
        assert len(set(items)) == len(items) == 5
        assert not set(items) & set(world.histories[row].tolist())
        assert set(items) <= set(range(1, ITEMS + 1))
    assert first != read(world.workspace, pools(world, None, seeds=[43]), "pools.parquet")["items"].to_pylist()
    counts = np.bincount(np.concatenate(first), minlength=ITEMS + 1)[1:]
    assert (counts > 0).all()


def test_a_pool_is_short_where_the_catalogue_is(world: World, workspace: Workspace, tmp_path: Path) -> None:
    small = make_world(workspace, {0: [1, 2], 5: [1, 1, 3]}, ["a", "b", "c", "d"])
    table = read(workspace, pools(small, None, 9), "pools.parquet")
    assert [sorted(row) for row in table["items"].to_pylist()] == [[3, 4], [2, 4]]
