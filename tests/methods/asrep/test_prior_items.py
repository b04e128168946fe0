"""ASReP's pseudo-prior items: generated one by one, never an item twice, at the front of short histories alone."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from asrep_world import ITEMS, VALUES, looking_back, made, walking
from tiny_world import NOWHERE, World

from llmser_tasks import recommenders
from llmser_tasks.core import config
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods.asrep import prior_items
from llmser_tasks.sequences.histories import Histories


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return walking(workspace)


def test_each_item_is_the_likeliest_before_all_that_is_there(world: World) -> None:
    run, refs = looking_back(world)
    items, model = made(run, refs), recommenders.load(run.folder(refs, "reverse"))
    assert items.users.tolist() == world.histories.users.tolist()
    for history, prior in zip(world.histories, items, strict=True):
        assert len(prior) == min(3, max(0, 6 - len(history))), "short ones alone, up to the length, so many at most"
        for place in range(len(prior)):
            behind = Histories.of([0], [[*prior[place + 1 :], *history][::-1]])
            best, _ = recommenders.top_k(model, behind, 1, behind)
            assert prior[place] == best[0, 0]
        assert len({*prior, *history}) == len(prior) + len(set(history)), "no item that is there already"
    assert 0 < (items.lengths > 0).sum() < len(items), "some are extended, some are not"


def test_a_small_catalogue_runs_out(world: World) -> None:
    run, refs = looking_back(world, asrep_items=50, asrep_length=60)
    for history, prior in zip(world.histories, made(run, refs), strict=True):
        assert sorted({*prior, *history}) == list(range(1, ITEMS + 1))


def test_nobody_is_short(world: World) -> None:
    run, refs = looking_back(world, asrep_length=2)
    assert made(run, refs).lengths.tolist() == [int(length < 2) for length in world.histories.lengths]


def test_without_the_model_that_looks_back_the_run_is_refused(workspace: Workspace) -> None:
    run = Run("one", config.from_flat(VALUES | {"without": ["ccg"]}), workspace, NOWHERE)
    with pytest.raises(InputError, match="a run without CCG does not have"):
        prior_items.check(run, {})
    prior_items.check(Run("two", config.from_flat(VALUES), workspace, NOWHERE), {})


def test_the_file_is_what_histories_are(world: World) -> None:
    run, refs = looking_back(world)
    artefact = prior_items.make(run, refs)
    table = pq.read_table(run.workspace.folder(artefact) / prior_items.FILE)
    assert table.schema.names == ["user", "items"]
    assert np.array_equal(table["user"].to_numpy(), world.histories.users)
