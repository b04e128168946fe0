"""RCS: trained on masked histories, asked for the masked item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_world import World, make_lists, make_world, read, walks

from llmser_tasks import recommenders
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.llmser import forward, rcs
from llmser_tasks.sequences.histories import Histories

ITEMS = 12


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return make_world(workspace, walks(40, ITEMS), [f"thing {n}" for n in range(ITEMS)])


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> dict[str, Histories | recommenders.Watch]:
    seen: dict[str, Histories | recommenders.Watch] = {}
    genuine = recommenders.train

    def spy(*arguments: Any, watch: recommenders.Watch, **rest: object) -> recommenders.TrainingSummary:
        (term,) = arguments[1]
        seen.update(histories=term.sequences, watch=watch)
        return genuine(*arguments, watch=watch, **rest)

    monkeypatch.setattr(recommenders, "train", spy)
    return seen


def train(world: World, **settings: Any) -> Artefact:
    return forward.make(world.run(**settings), world.refs())


def pools(world: World, pseudo: Artefact, model: Artefact | None, size: int = 4, **settings: Any) -> Artefact:
    settings |= {} if model else {"without": ["rcs"]}
    return rcs.make(world.run(reason_pool=size, **settings), world.refs(pseudo=pseudo, forward=model))


def as_dict(histories: Histories) -> dict[int, list[int]]:
    return {int(user): row.tolist() for user, row in zip(histories.users, histories, strict=True)}


def test_the_forward_model_never_trains_on_a_masked_item(world: World, spied: dict[str, object]) -> None:
    train(world)
    full = as_dict(world.histories)
    assert as_dict(spied["histories"]) == {user: row[:-1] for user, row in full.items() if len(row) > 1}
    watch = spied["watch"]
    assert as_dict(watch.contexts) == as_dict(spied["histories"])
    assert watch.targets.tolist() == [full[user][-1] for user in watch.contexts.users.tolist()]


def test_on_full_trains_on_everything_but_a_held_out_share_of_last_items(
    world: World, spied: dict[str, object]
) -> None:
    assert train(world).content != train(world, forward_on_full=True).content
    full, watch = as_dict(world.histories), spied["watch"]
    watched = watch.contexts.users.tolist()
    assert len(watched) == round(0.1 * sum(len(row) > 1 for row in full.values()))
    trained = as_dict(spied["histories"])
    for user, row in full.items():
        assert trained[user] == (row[:-1] if user in watched else row)


def test_a_share_that_is_not_used_changes_nothing(world: World) -> None:
    train(world)
    assert train(world, held_out_users=0.3).unchanged
    train(world, forward_on_full=True)
    assert not train(world, held_out_users=0.3, forward_on_full=True).unchanged


def test_context_is_the_masked_history_or_the_pseudo_items_where_that_is_empty() -> None:
    histories = Histories.of([1, 2, 3], [[5, 6, 7], [8], [9]])
    contexts = rcs.masked_contexts(histories, Histories.of([1, 2, 3], [[1], [2, 3], []]))
    assert as_dict(contexts) == {1: [5, 6], 2: [2, 3], 3: []}


def test_pools_are_in_rank_order_and_hold_nothing_of_the_context(world: World) -> None:
    trained = train(world)
    pseudo = make_lists(
        world.workspace, "pseudo", "pseudo.parquet", {int(user): [11, 12] for user in world.histories.users}
    )
    table = read(world.workspace, pools(world, pseudo, trained), "pools.parquet")
    likely = Histories.of(world.histories.users, [[11, 12]] * len(world.histories))
    contexts = rcs.masked_contexts(world.histories, likely)
    model = recommenders.load(world.workspace.folder(trained))
    best, _ = recommenders.top_k(model, contexts, 4, contexts)
    assert table["items"].to_pylist() == best.tolist()
    alone = [row for row, length in enumerate(world.histories.lengths) if length == 1]
    assert alone
    for row, items in enumerate(table["items"].to_pylist()):
        assert not set(items) & set(contexts[row].tolist())


def test_without_rcs_pools_are_random_and_may_hold_the_masked_item(world: World) -> None:
    pseudo = make_lists(world.workspace, "pseudo", "pseudo.parquet", {int(user): [] for user in world.histories.users})
    first = read(world.workspace, pools(world, pseudo, None), "pools.parquet")["items"].to_pylist()
    masked = world.histories.last()
    hits = 0
    for row, items in enumerate(first):
        if world.histories.lengths[row] == 1:
            assert items == []
        else:
            assert len(set(items)) == 4
            assert not set(items) & set(world.histories[row][:-1].tolist())
            hits += masked[row] in items
    assert hits > 0
    assert first != read(world.workspace, pools(world, pseudo, None, seeds=[1]), "pools.parquet")["items"].to_pylist()


def test_the_masked_item_takes_the_last_place_where_it_would_be_missing(world: World) -> None:
    pseudo = make_lists(world.workspace, "pseudo", "pseudo.parquet", {int(user): [] for user in world.histories.users})
    plain = read(world.workspace, pools(world, pseudo, None), "pools.parquet")["items"].to_pylist()
    made = pools(world, pseudo, None, masked_in_pool=True)
    table = read(world.workspace, made, "pools.parquet")
    added = 0
    rows = zip(world.histories, plain, *(table[name].to_pylist() for name in ("items", "scores")), strict=True)
    for history, before, now, scores in rows:
        masked = int(history[-1])
        if not before or masked in before:
            assert now == before
            continue
        added += 1
        assert now == [*before[:-1], masked]
        assert np.isnan(scores[-1]) and not np.isnan(scores[:-1]).any()
    assert added == world.workspace.summary(made)["added"] > 0


def test_a_short_pool_grows_by_the_masked_item(workspace: Workspace) -> None:
    small = make_world(workspace, {0: [1, 2, 3]}, ["a", "b", "c"])
    pseudo = make_lists(workspace, "pseudo", "pseudo.parquet", {0: []})
    for size in (1, 2, 9):
        made = pools(small, pseudo, None, size, masked_in_pool=True)
        assert read(workspace, made, "pools.parquet")["items"].to_pylist() == [[3]]
