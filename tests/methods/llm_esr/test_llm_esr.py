"""LLM-ESR in a run: what it trains on, what its switches leave out, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest
from neighbour_world import prepared, world
from tiny_world import World

from llmser_tasks import recommenders
from llmser_tasks.core import environment
from llmser_tasks.core.errors import InputError
from llmser_tasks.methods import trained
from llmser_tasks.methods.llm_esr import method
from llmser_tasks.recommenders.items.dual_view import DualView

__all__ = ["world"]

PARTS = method.DECLARED.ablations


def test_users_learn_from_as_many_neighbours_as_is_said(world: World) -> None:
    run, refs = prepared(world, esr_distillation=0.5)
    taught = method.lessons(run, refs, world.histories)
    assert [term.name for term in taught.terms] == ["next-item", "distillation"]
    weights = taught.terms[1].weights
    assert weights is not None and set(weights.tolist()) == {0.5}
    assert taught.features["user_neighbours"].shape == (len(world.histories), 3)
    assert not taught.table_without


@pytest.mark.parametrize("settings", [{"esr_distillation": 0.0}, {"without": ["self-distillation"]}])
def test_without_distillation_next_items_are_all_there_is(world: World, settings: dict[str, Any]) -> None:
    run, refs = prepared(world, **settings)
    taught = method.lessons(run, refs, world.histories)
    assert [term.name for term in taught.terms] == ["next-item"]
    assert not taught.features and not taught.table_without


def test_more_neighbours_than_were_looked_for_are_refused(world: World) -> None:
    run, refs = prepared(world, esr_neighbours=5)
    with pytest.raises(InputError, match=r"learn from 5 neighbours .* but only 4 were looked for"):
        method.lessons(run, refs, world.histories)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_left_out_of_a_training(world: World, part: str) -> None:
    run, refs = prepared(world, without=[part])
    model = trained.train(run, refs, "llm-esr", 42)
    table = recommenders.load(run.workspace.folder(model), "cpu").item_table
    assert table.name == "dual-view"
    assert table.without == (() if part == "self-distillation" else (part,))


@pytest.mark.parametrize("part", [None, *PARTS])
def test_residuals_stand_around_the_attention_wherever_there_is_one(world: World, part: str | None) -> None:
    run, refs = prepared(world, esr_cross_attention="residual", without=[part] if part else [])
    table = recommenders.load(run.workspace.folder(trained.train(run, refs, "llm-esr", 42)), "cpu").item_table
    assert isinstance(table, DualView)
    assert (table.crossing is not None) == (part not in {"co-view", "se-view", "cross-attention"})
    assert table.crossing is None or not table.crossing.bare


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
def test_every_backbone_is_trained_on_both_views(world: World, backbone: str) -> None:
    run, refs = prepared(world, backbone=backbone)
    model = trained.train(run, refs, "llm-esr", 42)
    manifest = run.workspace.manifest(model)
    assert manifest["inputs"].keys() == {"training", "validation", "item-vectors", "user-neighbours"}
    assert manifest["summary"]["users"] == len(world.histories), "those with one item, too"
    assert recommenders.load(run.workspace.folder(model), "cpu").item_table.width == 16
    assert trained.train(run, refs, "llm-esr", 42).unchanged
    another, _ = prepared(world, backbone=backbone, without=["sharing"])
    assert not trained.train(another, refs, "llm-esr", 42).unchanged


def test_the_preset_is_the_released_codes_protocol() -> None:
    plain = environment.configuration({"dataset": "beauty"}).model_dump()
    flat = environment.preset("released-llm-esr")
    made = environment.configuration({"dataset": "beauty", **flat}).model_dump()
    recommender = {"max_length": 200, "loss": "bce", "negatives": 1, "negatives_from": "uniform", "batch_size": 128}
    recommender |= {"averaging": 0, "patience": 20, "dropout": 0.5, "epochs": 200, "learning_rate": 1e-3}
    assert made["recommender"] == plain["recommender"] | recommender
    assert made["evaluation"]["methods"] == ("base", "llm-esr") and made["evaluation"]["seeds"] == (42, 43, 44)
    assert made["dataset"] == plain["dataset"] | {"ties": "file"}  # its file's filters stay
    assert made["llm_esr"] == {"esr_distillation": 0.1, "esr_neighbours": 10, "esr_cross_attention": "plain"}
    assert made["texts"]["user_vectors"] == "titles"
