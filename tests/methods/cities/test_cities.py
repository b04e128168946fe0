"""CITIES in a run: the base's model, with other vectors for rare items and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asrep_world import walking
from neighbour_world import prepared, world
from tiny_world import World

from llmser_tasks import recommenders
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods import trained
from llmser_tasks.methods.cities.contexts import Contexts
from llmser_tasks.recommenders import Model
from llmser_tasks.recommenders.loop.early_stopping import Seen, ndcg_at_10
from llmser_tasks.sequences.head_items import head_items
from llmser_tasks.sequences.histories import Histories

__all__ = ["world"]


def counts(world: World) -> Any:
    return world.histories.counts(world.items)


def middle(world: World) -> int:
    """A count that some items exceed and others do not."""
    return int(np.median(counts(world)[1:]))


def models(run: Run, refs: Made, name: str = "cities", reference: str = "base") -> tuple[Model, Model]:
    folders = [run.workspace.folder(trained.train(run, refs, each, 42)) for each in (name, reference)]
    finished, base = (recommenders.load(folder, "cpu") for folder in folders)
    return finished, base


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
def test_rare_items_alone_get_other_vectors(world: World, backbone: str) -> None:
    run, refs = prepared(world, backbone=backbone, cities_seen=middle(world))
    finished, base = models(run, refs)
    moved = (finished.table != base.table).any(1).numpy()
    rare = (counts(world) <= middle(world)) & (Contexts.of(world.histories, world.items).count > 0)
    assert moved.tolist() == rare.tolist() and 0 < rare.sum() < world.items
    own, theirs = finished.state_dict(), base.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own if name != "item_table.ids.weight")


def test_by_the_tables_groups_tail_items_are_rare(world: World) -> None:
    run, refs = prepared(world, cities_seen=None)
    finished, base = models(run, refs)
    kept = (finished.table == base.table).all(1).numpy()
    assert kept.tolist() == (head_items(counts(world)) | ~(counts(world) > 0)).tolist()


def test_what_it_came_to_is_that_of_the_finished_model(world: World) -> None:
    run, refs = prepared(world, cities_seen=middle(world))
    model = trained.train(run, refs, "cities", 42)
    base = trained.train(run, refs, "base", 42)
    assert base.unchanged, "the base was trained for it, and is there for all"
    manifest, of_base = run.workspace.manifest(model), run.workspace.summary(base)
    assert manifest["inputs"].keys() == {"training", "validation", "reference"}
    assert manifest["inputs"]["reference"] == base.content
    summary = manifest["summary"]
    assert summary.keys() > of_base.keys() and summary["epochs"] == of_base["epochs"]
    loaded = recommenders.load(run.workspace.folder(model), "cpu")
    watched = trained.watch(run, refs, world.histories, Histories.of([], []))
    assert summary["ndcg"] == ndcg_at_10(loaded, watched, Seen.by(loaded, watched))
    assert set(manifest["files"]) == {"config.json", "model.safetensors", "log.jsonl"}
    assert trained.train(run, refs, "cities", 42).unchanged


@pytest.mark.parametrize("table", ["text-start", "summed", "alphafuse", "dual-view"])
def test_it_goes_with_other_item_tables(world: World, table: str) -> None:
    run, refs = prepared(world, cities_seen=middle(world))
    finished, base = models(run, refs, f"cities+{table}", f"base+{table}")
    moved = (finished.table - base.table).abs().amax(1).detach().numpy() > 1e-6
    assert not moved[counts(world) > middle(world)].any() and moved.any()


def test_killed_while_it_infers_it_trains_no_base_again_and_ends_the_same(world: World, tmp_path: Path) -> None:
    settings = {"cities_seen": middle(world), "epochs": 4, "patience": 4}
    run, refs = prepared(world, **settings)

    def interrupt(done: int, total: int | None, unit: str, note: str = "") -> None:
        if done == 2 and "contexts" in note:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained.train(run, refs, "cities", 42, interrupt)
    rest: list[tuple[int, str]] = []
    model = trained.train(run, refs, "cities", 42, lambda done, total, unit, note="": rest.append((done, note)))
    assert [done for done, _ in rest] == [3, 4] and all("contexts" in note for _, note in rest)
    elsewhere, others = prepared(walking(Workspace(tmp_path / "elsewhere")), **settings)
    whole = trained.train(elsewhere, others, "cities", 42)
    assert whole.content == model.content


def test_where_nothing_is_seen_often_it_says_so(world: World) -> None:
    run, refs = prepared(world, cities_seen=1000)
    with pytest.raises(InputError, match="none is seen often enough in training histories; lower cities_seen"):
        trained.train(run, refs, "cities", 42)
