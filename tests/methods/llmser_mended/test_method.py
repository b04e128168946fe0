"""The mended form: the same artefacts as LLMSeR's, used with more care."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_world import DATASET, World, make_lists, make_world

from llmser_tasks import recommenders
from llmser_tasks.core.config import to_flat
from llmser_tasks.core.run import Made
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import trained
from llmser_tasks.methods.llmser import method as paper
from llmser_tasks.methods.llmser.reliability import SCHEMA
from llmser_tasks.methods.llmser_mended import method
from llmser_tasks.sequences.histories import MARK, Histories
from llmser_tasks.sequences.targets import Targets, write_targets
from llmser_tasks.texts.vectors import ItemVectors

HISTORIES = {0: [1, 2], 3: [2, 3, 1], 4: [3, 1], 5: [1, 3, 2, 4], 7: [4, 2]}
PSEUDO = {0: [3, 4], 3: [4], 4: [], 5: [5], 7: [1, 3]}
POOLS = {0: [2, 3], 3: [1, 4], 4: [1], 5: [3, 4], 7: [2, 5]}
#        masked named  ω    α
SCORES = {
    0: (2, 2, 1.0, 1.0),
    3: (1, 4, 0.5, 0.25),  # a head user, β = ½
    4: (1, 0, 0.0, 0.0),  # without pseudo items
    5: (4, 3, 0.0, 0.0),  # named what is not alike
    7: (2, 5, 0.6, 0.6),
}
DEGREES = (0, 30, 90, 60, 10, 45)


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return make_world(workspace, HISTORIES, [f"thing {n}" for n in range(6)])


def made(world: World, step: str, file: str, table: pa.Table) -> Artefact:
    def write(folder: Path) -> dict[str, Any]:
        pq.write_table(table, folder / file)
        return {}

    return world.workspace.produce(step, DATASET, write, inputs={}, config={"t": str(table.to_pylist())})


@pytest.fixture
def refs(world: World) -> Made:
    columns = dict(zip(("masked", "named", "omega", "alpha"), zip(*SCORES.values(), strict=True), strict=True))
    table = pa.table(
        {
            "user": list(SCORES),
            "n": [len(row) for row in HISTORIES.values()],
            **columns,
            "named": [item or None for item in columns["named"]],
            "source": [None] * 5,
            "reason": [None] * 5,
        },
        SCHEMA,
    )

    def vectors(folder: Path) -> dict[str, Any]:
        angles = np.deg2rad([0, *DEGREES])
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        rows[0] = 0
        ItemVectors(rows, np.array([False] + [True] * len(DEGREES))).write(folder)
        return {}

    def validation(folder: Path) -> dict[str, Any]:
        users = world.histories.users
        targets = Targets(users, Histories.of(users, [[] for _ in users]), np.full(len(users), 6, np.int32))
        write_targets(folder / "targets.parquet", targets)
        return {}

    workspace = world.workspace
    return world.refs(
        **{
            "pseudo": make_lists(workspace, "pseudo", "pseudo.parquet", PSEUDO),
            "rcs": make_lists(workspace, "rcs", "pools.parquet", POOLS),
            "reliability": made(world, "reliability", "reliability.parquet", table),
            "item-vectors": workspace.produce("item-vectors", DATASET, vectors, inputs={}, config={}),
            "validation": workspace.produce("validation", DATASET, validation, inputs={}, config={}),
        }
    )


def chance(masked: int, pool: list[int]) -> float:
    return float(np.mean([np.cos(np.deg2rad(DEGREES[masked - 1] - DEGREES[item - 1])) for item in pool]))


def test_alpha_is_above_chance_and_head_users_stay_decayed(world: World, refs: Made) -> None:
    weights = method.lessons(world.run(), refs, world.histories).terms[1].weights
    assert weights is not None
    angles = {60: chance(1, [1, 4]), 20: chance(2, [2, 5])}  # between the named and the masked item → c₀
    of_head, of_tail = ((np.cos(np.deg2rad(angle)) - c) / (1 - c) for angle, c in angles.items())
    assert weights.tolist() == pytest.approx([1, 0.5 * max(of_head, 0), 0, 0, max(of_tail, 0)], abs=1e-6)


@pytest.mark.parametrize("settings", [{"omega": "cosine"}, {"without": ["arv"]}])
def test_the_papers_alpha_where_it_is_wanted_or_nothing_was_compared(
    world: World, refs: Made, settings: dict[str, Any]
) -> None:
    weights = method.lessons(world.run(**settings), refs, world.histories).terms[1].weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([row[3] for row in SCORES.values()])


def test_pseudo_items_are_marked_and_real_ones_are_not(world: World, refs: Made) -> None:
    plain, enhanced = method.lessons(world.run(), refs, world.histories).terms
    papers = paper.lessons(world.run(), refs, world.histories).terms[1]
    assert not plain.sequences.any_marked
    assert enhanced.sequences.unmarked().items.tolist() == papers.sequences.items.tolist()
    assert enhanced.context is not None and papers.context is not None
    assert enhanced.context.tolist() == papers.context.tolist()
    for row, before in zip(enhanced.sequences, enhanced.context, strict=True):
        assert (row >= MARK).tolist() == [True] * before + [False] * (len(row) - before)
    unmarked = method.lessons(world.run(mark=False), refs, world.histories).terms[1]
    assert unmarked.sequences.items.tolist() == papers.sequences.items.tolist()


def test_only_whose_items_are_trusted_is_shown_them(world: World, refs: Made) -> None:
    shown = method.prior(world.run(), refs)
    alpha = method.lessons(world.run(), refs, world.histories).terms[1].weights
    assert alpha is not None
    trusted = world.histories.users[alpha > 0]
    assert shown.users.tolist() == trusted.tolist() and 5 not in trusted, "user 5 has pseudo items, but no trust"
    assert [row.tolist() for row in shown.unmarked()] == [PSEUDO[int(user)] for user in trusted]
    assert shown.any_marked
    assert not len(method.prior(world.run(enhance_inference=False), refs))


def test_it_is_trained_beside_the_papers_form_and_its_model_knows_marks(world: World, refs: Made) -> None:
    run = world.run(methods=["base", "llmser", "llmser-mended"])
    models = {name: trained.train(run, refs, name, 42) for name in run.config.methods}
    loaded = {name: recommenders.load(world.workspace.folder(model)) for name, model in models.items()}
    assert {name: model.mark is not None for name, model in loaded.items()} == {
        "base": False, "llmser": False, "llmser-mended": True,
    }  # fmt: skip
    mark = loaded["llmser-mended"].mark
    assert mark is not None and bool(mark.any())
    for changed, again in (({"omega": "cosine"}, True), ({"mark": False}, True), ({"asrep_items": 3}, False)):
        other = world.run(**{"methods": ["base", "llmser-mended"]} | changed)
        assert trained.train(other, refs, "llmser-mended", 42).unchanged is not again
        assert trained.train(other, refs, "base", 42).unchanged
    assert to_flat(run.config)["omega"] == "above-chance"
