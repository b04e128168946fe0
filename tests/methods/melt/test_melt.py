"""MELT in a run: it begins with the base's model, and is served with what its branches have learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from neighbour_world import prepared, world
from tiny_world import World

from llmser_tasks import recommenders
from llmser_tasks.methods import trained
from llmser_tasks.methods.melt import method

__all__ = ["world"]

LONG = {"epochs": 6, "patience": 6, "learning_rate": 1e-2}


def test_it_learns_with_both_branches_up_to_the_runs_threshold(world: World) -> None:
    run, refs = prepared(world, melt_users=0.25, melt_items=0.5, melt_epochs=7)
    taught = method.lessons(run, refs, world.histories)
    assert [term.name for term in taught.terms] == ["next-item", "tail-users", "tail-items"]
    assert [set(term.weights.tolist()) for term in taught.terms if term.weights is not None] == [{0.25}, {0.5}]
    assert {name: int(value) for name, value in taught.features.items()} == {"tail_length": 2, "curriculum_epochs": 7}
    short, _ = prepared(world, max_length=2)
    assert method.lessons(short, refs, world.histories).features["tail_length"] == 1, "of two items it sees no more"


@pytest.mark.parametrize(
    ("settings", "left", "features"),
    [
        ({"melt_users": 0.0}, ["tail-items"], {"curriculum_epochs": 180}),
        ({"without": ["user-branch"]}, ["tail-items"], {"curriculum_epochs": 180}),
        ({"without": ["item-branch"]}, ["tail-users"], {"tail_length": 2, "curriculum_epochs": 180}),
        ({"melt_items": 0.0, "without": ["user-branch"]}, [], {}),
        ({"without": ["curriculum"]}, ["tail-users", "tail-items"], {"tail_length": 2, "curriculum_epochs": 0}),
    ],
)
def test_a_branch_that_is_left_out_is_not_there(
    world: World, settings: dict[str, Any], left: list[str], features: dict[str, int]
) -> None:
    run, refs = prepared(world, **settings)
    taught = method.lessons(run, refs, world.histories)
    assert [term.name for term in taught.terms] == ["next-item", *left]
    assert {name: int(value) for name, value in taught.features.items()} == features
    trained.train(run, refs, "melt", 42)  # takes what it is given, and nothing is over


def test_training_begins_with_the_bases_model_which_the_run_shares(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, refs = prepared(world)
    begun: list[Path | None] = []
    genuine = recommenders.train

    def spy(*arguments: Any, start_from: Path | None = None, **rest: Any) -> recommenders.TrainingSummary:
        begun.append(start_from)
        return genuine(*arguments, start_from=start_from, **rest)

    monkeypatch.setattr(recommenders, "train", spy)
    model = trained.train(run, refs, "melt", 42)
    base = trained.train(run, refs, "base", 42)
    assert base.unchanged, "it was trained for this one, and is there for all"
    assert begun == [None, run.workspace.folder(base)]
    inputs = run.workspace.manifest(model)["inputs"]
    assert inputs.keys() == {"training", "validation", "reference"} and inputs["reference"] == base.content
    assert trained.train(run, refs, "melt", 42).unchanged
    trained.train(run, refs, "melt+text-start", 42)
    assert begun[3] == run.workspace.folder(trained.train(run, refs, "base+text-start", 42))


@pytest.mark.parametrize("loss", ["sampled-softmax", "bce", "gbce", "cross-entropy"])
def test_with_every_loss_it_is_trained(world: World, loss: str) -> None:
    run, refs = prepared(world, loss=loss, negatives=None if loss == "cross-entropy" else 4)
    model = trained.train(run, refs, "melt", 42)
    loaded = recommenders.load(run.workspace.folder(model), "cpu")
    assert all(bool(torch.isfinite(weights).all()) for weights in loaded.state_dict().values())


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
def test_every_backbone_serves_tail_users_with_what_it_has_learned(world: World, backbone: str) -> None:
    run, refs = prepared(world, backbone=backbone, **LONG)
    model = trained.train(run, refs, "melt", 42)
    loaded = recommenders.load(run.workspace.folder(model), "cpu")
    summary = run.workspace.summary(model)
    assert summary["ndcg"] >= run.workspace.summary(trained.train(run, refs, "base", 42))["ndcg"], "or it were the base"
    assert list(loaded.parts) == ["tail-users"]
    assert loaded.parts["tail-users"].map.weight.any() == (summary["best_epoch"] > 0)


@pytest.mark.parametrize("table", ["text-start", "summed", "alphafuse", "dual-view"])
def test_it_goes_with_other_item_tables(world: World, table: str) -> None:
    run, refs = prepared(world, **LONG)
    model = trained.train(run, refs, f"melt+{table}", 42)
    assert recommenders.load(run.workspace.folder(model), "cpu").item_table.name == (
        "dual-view" if table == "dual-view" else "ids"
    )
