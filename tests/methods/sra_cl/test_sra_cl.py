"""SRA-CL in a run: what it trains on, what its weights leave out, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest
from neighbour_world import LOOKED_FOR, prepared, world
from tiny_world import World

from llmser_tasks import recommenders
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.methods import trained
from llmser_tasks.methods.sra_cl import method

__all__ = ["world"]


def test_users_are_told_apart_by_neighbours_and_by_views(world: World) -> None:
    settings = {"sra_neighbour_contrast": 0.25, "sra_view_contrast": 0.5, "sra_replaced": 0.75, "sra_temperature": 2.0}
    run, refs = prepared(world, **settings)
    taught = method.lessons(run, refs, world.histories)
    assert [term.name for term in taught.terms] == ["next-item", "neighbour-contrast", "view-contrast"]
    weights = [set(term.weights.tolist()) for term in taught.terms if term.weights is not None]
    assert weights == [{0.25}, {0.5}]
    assert taught.features["user_neighbours"].shape == (len(world.histories), LOOKED_FOR)
    assert taught.features["item_neighbours"].min() == 0
    assert taught.features["contrast_replaced"] == 0.75 and taught.features["contrast_temperature"] == 2.0


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"sra_neighbour_contrast": 0.0}, ["view-contrast"]),
        ({"sra_view_contrast": 0.0}, ["neighbour-contrast"]),
        ({"sra_neighbour_contrast": 0.0, "sra_view_contrast": 0.0}, []),
    ],
)
def test_a_contrast_without_weight_is_not_there(world: World, settings: dict[str, Any], left: list[str]) -> None:
    run, refs = prepared(world, **settings)
    assert [term.name for term in method.lessons(run, refs, world.histories).terms] == ["next-item", *left]
    trained.train(run, refs, "sra-cl", 42)  # takes what it is given, and nothing is over


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_every_backbone_is_trained_and_nothing_of_the_texts_is_left_in_it(world: World, backbone: str) -> None:
    run, refs = prepared(world, backbone=backbone)
    model = trained.train(run, refs, "sra-cl", 42)
    manifest = run.workspace.manifest(model)
    assert manifest["inputs"].keys() == {"training", "validation", "user-neighbours", "item-neighbours"}
    assert manifest["summary"]["users"] == len(world.histories), "those with one item, too"
    table = recommenders.load(run.workspace.folder(model), "cpu").item_table
    assert table.name == "ids" and set(table.state_dict()) == {"ids.weight"}
    assert trained.train(run, refs, "sra-cl", 42).unchanged


def test_it_goes_with_other_item_tables(world: World) -> None:
    run, refs = prepared(world)
    model = trained.train(run, refs, "sra-cl+text-start", 42)
    assert recommenders.load(run.workspace.folder(model), "cpu").item_table.name == "text-start"
    assert METHODS["sra-cl+text-start+content"].title == "SRA-CL + text start + content score"
