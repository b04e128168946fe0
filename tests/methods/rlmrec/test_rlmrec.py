"""RLMRec in a run: which alignment it trains with, and that nothing of it is left in a model."""

from __future__ import annotations

from typing import Any

import pytest
from neighbour_world import prepared, world
from tiny_world import World

from llmser_tasks import recommenders
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.methods import trained
from llmser_tasks.methods.rlmrec import method

__all__ = ["world"]

ALIGNMENTS = {"contrastive": "text-contrast", "generative": "text-reconstruction"}


@pytest.mark.parametrize(("alignment", "term"), ALIGNMENTS.items())
def test_what_is_learned_is_held_to_texts_in_the_way_that_is_said(world: World, alignment: str, term: str) -> None:
    settings = {"rlmrec_alignment": alignment, "rlmrec_weight": 0.25, "rlmrec_temperature": 0.5, "rlmrec_masked": 0.75}
    run, refs = prepared(world, **settings)
    taught = method.lessons(run, refs, world.histories)
    assert [one.name for one in taught.terms] == ["next-item", term]
    assert taught.terms[1].weights is not None and set(taught.terms[1].weights.tolist()) == {0.25}
    assert taught.features["alignment_temperature"] == 0.5
    assert taught.features.get("alignment_masked") == (0.75 if alignment == "generative" else None)


def test_without_a_weight_it_is_the_base(world: World) -> None:
    run, refs = prepared(world, rlmrec_weight=0.0)
    model, base = (trained.train(run, refs, name, 42) for name in ("rlmrec", "base"))
    assert weights(run, model) == weights(run, base)


def weights(run: Any, model: Any) -> bytes:
    read: bytes = (run.workspace.folder(model) / "model.safetensors").read_bytes()
    return read


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_every_backbone_is_trained_and_no_map_is_left_in_it(world: World, backbone: str, alignment: str) -> None:
    run, refs = prepared(world, backbone=backbone, rlmrec_alignment=alignment)
    model = trained.train(run, refs, "rlmrec", 42)
    manifest = run.workspace.manifest(model)
    assert manifest["inputs"].keys() == {"training", "validation", "item-vectors"}
    loaded = recommenders.load(run.workspace.folder(model), "cpu")
    assert loaded.item_table.name == "ids" and not len(loaded.parts)
    assert not any(name.startswith("parts") for name in loaded.state_dict())
    assert trained.train(run, refs, "rlmrec", 42).unchanged
    assert weights(run, model) != weights(run, trained.train(run, refs, "base", 42))


def test_it_goes_with_other_item_tables(world: World) -> None:
    run, refs = prepared(world)
    model = trained.train(run, refs, "rlmrec+text-start", 42)
    assert recommenders.load(run.workspace.folder(model), "cpu").item_table.name == "text-start"
    assert METHODS["rlmrec+text-start+content"].title == "RLMRec + text start + content score"
