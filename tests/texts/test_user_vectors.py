"""Vectors and neighbours of users and items, as steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_dumps import SMALL, Careers, FakeEncoder, careers, write_dumps
from tiny_world import NOWHERE, World, make_world

from llmser_tasks.core import config
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.run import Made, Run, artefact
from llmser_tasks.core.workspace import DATA_SUFFIXES, Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.texts import encoder, user_vectors
from llmser_tasks.texts.embedding import OF_AN_ENCODER as LONGEST
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.texts.user_vectors import user_text, weighted_means

MADE = ("item-vectors", "item-neighbours", "user-vectors", "user-neighbours")  # each after those that it needs
KINDS = ("mean", "titles")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts, as the encoder is asked for them."""
    seen: list[str] = []
    embed = FakeEncoder.embed

    def noting(self: FakeEncoder, titles: Sequence[str], *rest: object) -> np.ndarray:
        seen.extend(titles)
        return embed(self, titles)

    monkeypatch.setattr(FakeEncoder, "embed", noting)
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)
    return seen


def make(run: Run, refs: Made) -> Made:
    for name in MADE:
        refs = refs | {name: STEPS.load(name).make(run, refs).reference()}
    return refs


def world(workspace: Workspace) -> World:
    """Users 4 and 9 have the same history, user 6 no title."""
    histories = {2: [1, 2], 4: [3], 6: [4, 4], 9: [3], 11: [2, 1, 3]}
    return make_world(workspace, histories, ["soap", "comb", "brush", None, "towel"])


def features(run: Run, refs: Made) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in MADE:
        found |= STEPS.load(name).features(run.folder(refs, name))
    return found


def test_a_mean_counts_the_newest_items_most() -> None:
    from llmser_tasks.sequences.histories import Histories

    items = np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    found = weighted_means(Histories.of([5, 7, 9], [[1, 2], [1], [3]]), items)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(np.array([0.5, 1]) / np.sqrt(1.25))
    assert np.array_equal(found[1:], [[1, 0], [0, 0]])


def test_a_text_keeps_the_newest_titles_and_what_it_asks() -> None:
    titles = [f"title number {number}" for number in range(100)]
    text = user_text(titles, "product", LONGEST)
    assert len(text) <= LONGEST
    assert text.startswith("The user has chosen the following products, the latest first: title number 99, title ")
    assert "title number 0," not in text and text.endswith(". Conclude the user's preference.")
    assert user_text(titles, "product", 8_000).endswith("title number 0. Conclude the user's preference.")
    assert user_text(["a", "b"], "business", LONGEST).endswith("first: b, a. Conclude the user's preference.")
    assert len(user_text(["x" * 5000], "product", LONGEST)) == LONGEST, "one title that is too long is cut"
    assert user_text([], "product", LONGEST) == ""


def test_text_keeps_whole_titles_only() -> None:
    text = user_text(["oldest " + "x" * 300, "middle " + "y" * 200, "newest"], "product", LONGEST)
    assert "newest, middle" in text and "oldest" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_a_training_user_zeros_and_no_neighbours_without_a_title(
    workspace: Workspace, embedded: list[str], kind: str
) -> None:
    made = world(workspace)
    run = made.run(user_vectors=kind, neighbours=2)
    found = features(run, make(run, made.refs()))
    users, near = found["user_vectors"], found["user_neighbours"]
    assert users.shape == (5, 4) and users.dtype == np.float32
    assert not users[2].any() and np.linalg.norm(users[[0, 1, 3, 4]], axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(users[1], users[3])
    assert near.shape == found["user_neighbour_cosines"].shape == (5, 2)
    assert near[1, 0] == 3 and near[3, 0] == 1, "equal histories are nearest, and nobody is their own neighbour"
    assert (near[2] == -1).all() and 2 not in near


def test_items_have_neighbours_by_their_ids(workspace: Workspace, embedded: list[str]) -> None:
    made = world(workspace)
    run = made.run(neighbours=4)
    found = features(run, make(run, made.refs()))
    assert found["item_vectors"].shape == (6, 4)
    near = found["item_neighbours"]
    assert near.shape == (6, 4) and near.dtype == np.int32
    assert not near[0].any() and not near[4].any() and 4 not in near, "padding, and an item without a title"
    assert sorted(near[1, :3]) == [2, 3, 5] and near[1, 3] == 0
    assert (np.diff(found["item_neighbour_cosines"][1, :3]) <= 0).all()


def test_what_they_were_made_by_is_written_down(workspace: Workspace, embedded: list[str]) -> None:
    made = world(workspace)
    run = made.run(user_vectors="titles")
    refs = make(run, made.refs())
    about = workspace.summary(artefact(refs, "user-vectors"))
    assert about == {"users": 5, "with_text": 4, "dimension": 4, "model": "minilm", "encoder_hash": "fa5e"}
    about = workspace.summary(artefact(refs, "user-neighbours"))
    assert about.keys() == {"users", "without", "neighbours", "mean_cosine"}


def test_no_text_is_embedded_twice_by_whichever_dataset_or_refresh(workspace: Workspace, embedded: list[str]) -> None:
    """The store's cache is by text and encoder: another dataset, and the next catalogue, look up what is there."""
    first = make_world(workspace, {0: [1, 2]}, ["soap", "comb"])
    make(first.run(user_vectors="titles"), first.refs())
    assert len(embedded) == 3 and {"soap", "comb"} < set(embedded)
    grown = make_world(workspace, {0: [1, 2], 1: [3]}, ["soap", "comb", "brush"])
    make(grown.run(user_vectors="titles"), grown.refs())
    assert len(embedded) == 5, "the new item, and the new user"
    make(grown.run(user_vectors="titles", dataset="another"), grown.refs())
    assert len(embedded) == 5
    assert len(set(embedded)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_items_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from test_leakage import permuted

    monkeypatch.setattr(encoder.Encoder, "open", FakeEncoder.open)

    def worlds(name: str, people: Careers) -> tuple[Workspace, Made]:
        workspace = Workspace(tmp_path / name)
        values = SMALL | write_dumps(tmp_path / f"{name}-dumps", people) | {"user_vectors": kind}
        run = Run("one", config.from_flat(values), workspace, NOWHERE)
        cut = sequences(workspace, run.config.dataset, ingest(workspace, run.config.dataset))
        return workspace, make(run, {name: made.reference() for name, made in cut.items()})

    (here, ours), (there, theirs) = worlds("before", careers()), worlds("after", permuted(careers()))
    assert bytes_of(here, ours, "test") != bytes_of(there, theirs, "test")
    for name in MADE:
        assert bytes_of(here, ours, name) == bytes_of(there, theirs, name), f"{name} knows something of held-out items"
        inputs = json.loads((here.root / ours[name]["path"] / "manifest.json").read_text())["inputs"]
        assert inputs.keys() <= {"training", "catalogue", *MADE}, name


def bytes_of(workspace: Workspace, refs: Made, name: str) -> dict[str, bytes]:
    folder = workspace.root / refs[name]["path"]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in DATA_SUFFIXES}
    assert files
    return files


def test_an_encoder_that_is_not_there_is_found_out_before_anything_is_trained(tmp_path: Path) -> None:
    from llmser_tasks.core.errors import InputError

    (tmp_path / "empty").mkdir()
    values = {"dataset": "tiny", "encoder": str(tmp_path / "empty"), "user_vectors": "titles"}
    with pytest.raises(InputError, match=r"empty.*cannot be read as a BERT"):
        user_vectors.prepare(Run("one", config.from_flat(values), Workspace(tmp_path), NOWHERE))
