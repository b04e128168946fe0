"""Reason: what is shown, and when nothing is asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from endpoint_double import Double
from tiny_world import World, make_lists, make_world

from llmser_tasks.asking.ask import Batch, ask_batch
from llmser_tasks.asking.picks import Picks
from llmser_tasks.asking.questions import Inquiry
from llmser_tasks.core import config
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.methods.llmser import reason

TITLES = [f"thing {n}" for n in range(1, 9)] + [None, None]


@pytest.fixture
def world(workspace: Workspace) -> World:
    return make_world(workspace, {0: [1, 2, 3], 1: [4], 2: [5, 9]}, TITLES)


def inquire(world: World, history: list[int], pseudo: list[int], pool: list[int], **llm: Any) -> Inquiry:
    given = {"pseudo": np.array(pseudo, np.int32), "rcs": np.array(pool, np.int32)}
    return reason.inquire(0, np.array(history, np.int32), given, world.known, configured(**llm))


def configured(**llm: Any) -> config.RunConfig:
    return config.RunConfig(dataset=config.Dataset(noun="lamp"), llm=config.Llm(**llm))


def test_the_masked_enhanced_sequence_is_shown_oldest_first_without_the_masked_item(world: World) -> None:
    question = inquire(world, [1, 2, 3], [7, 9, 8], [3, 4, 5]).question
    assert question is not None
    block = json.loads(question.messages[-1]["content"])
    assert block["history"] == ["thing 7", "thing 8", "thing 1", "thing 2"]
    assert sorted(c["title"] for c in block["candidates"]) == ["thing 3", "thing 4", "thing 5"]
    assert question.picks == 1
    assert question.step == "reason"
    assert "one lamp" in question.messages[0]["content"]


def test_only_the_oldest_are_dropped_from_a_long_sequence(world: World) -> None:
    question = inquire(world, [1, 2, 3], [7, 8], [4], history_length=3).question
    assert question is not None
    assert json.loads(question.messages[-1]["content"])["history"] == ["thing 8", "thing 1", "thing 2"]


@pytest.mark.parametrize(
    ("history", "pseudo", "pool", "why"),
    [
        ([1, 2], [], [3], reason.NO_PSEUDO_ITEMS),
        ([1, 9], [3], [4], reason.MASKED_UNTITLED),
        ([9, 1], [10], [4], reason.NO_HISTORY),
        ([1, 2], [3], [9, 10], reason.NO_CANDIDATE),
        ([1, 2], [3], [], reason.NO_CANDIDATE),
    ],
)
def test_nothing_is_asked_that_could_not_be_scored(
    world: World, history: list[int], pseudo: list[int], pool: list[int], why: str
) -> None:
    inquiry = inquire(world, history, pseudo, pool)
    assert (inquiry.question, inquiry.reason) == (None, why)


def test_a_batch_names_one_item_a_user(world: World, llm: Double, warehouse: Warehouse, run_id: str) -> None:
    llm.script = lambda block, _: json.dumps({"item": max(block["candidates"], key=lambda c: c["title"])["id"]})
    workspace = world.workspace
    made = {
        "training": world.training,
        "catalogue": world.catalogue,
        "pseudo": make_lists(workspace, "pseudo", "pseudo.parquet", {0: [7], 1: [8], 2: [6]}),
        "rcs": make_lists(workspace, "rcs", "pools.parquet", {0: [3, 4], 1: [5, 4, 3], 2: [1]}),
    }
    refs = {name: artefact.reference() for name, artefact in made.items()}
    run = Run(run_id, configured(), workspace, warehouse)
    counts = ask_batch(run, refs, reason.STEP, Batch(0, 0, 2, "users 0–2"), llm.endpoint)
    picks = Picks.read(warehouse, run_id, "reason", world.known)
    assert picks.of(0) == ([4], ["strict"], None)
    assert picks.of(1) == ([5], ["strict"], None)
    assert picks.of(2) == ([], [], reason.MASKED_UNTITLED)
    assert {tuple(block["history"]) for block in llm.asked} == {("thing 7", "thing 1", "thing 2"), ("thing 8",)}
    assert counts["calls"] == 2
