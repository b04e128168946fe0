"""The step that embeds a catalogue's titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_dumps import FakeEncoder
from tiny_world import DATASET, NOWHERE, make_world

from llmser_tasks.core import config
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.texts import encoder, item_vectors
from llmser_tasks.texts.vectors import ItemVectors


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles, as the encoder is asked for them."""
    seen: list[str] = []
    embed = FakeEncoder.embed

    def noting(self: FakeEncoder, titles: list[str], *rest: object) -> np.ndarray:
        seen.extend(titles)
        return embed(self, titles)

    monkeypatch.setattr(FakeEncoder, "embed", noting)
    monkeypatch.setattr(encoder.Encoder, "open", FakeEncoder.open)
    return seen


def run(workspace: Workspace, **settings: object) -> Run:
    return Run("one", config.from_flat({"dataset": DATASET, **settings}), workspace, NOWHERE)


def test_a_row_an_item_zeros_without_a_title(workspace: Workspace, embedded: list[str]) -> None:
    world = make_world(workspace, {0: [1, 2]}, ["soap", None, "comb", "soap"])
    made = item_vectors.make(run(workspace), {"catalogue": world.catalogue.reference()})
    vectors = ItemVectors.read(workspace.folder(made))
    soap, comb = FakeEncoder().embed(["soap", "comb"])
    expected = np.stack([np.zeros(4), soap, np.zeros(4), comb, soap])
    assert vectors.vectors.dtype == np.float32
    assert np.array_equal(vectors.vectors, expected)
    assert vectors.titled.tolist() == [False, True, False, True, True]
    made_by = {"model": "minilm", "dimension": 4, "encoder_hash": "fa5e"}
    assert workspace.summary(made) == {"items": 4, "titled": 3} | made_by
    assert workspace.manifest(made)["inputs"].keys() == {"catalogue"}


def test_an_item_is_embedded_by_its_text(workspace: Workspace, embedded: list[str]) -> None:
    texts = ["soap. Soapy", "Nameless", "comb", None]
    world = make_world(workspace, {0: [1, 2]}, ["soap", None, "comb", None], texts=texts)
    vectors = ItemVectors.read(workspace.folder(item_vectors.make(run(workspace), world.refs())))
    assert sorted(embedded) == ["Nameless", "comb", "soap. Soapy"]
    assert vectors.titled.tolist() == [False, True, True, True, False]
    assert np.array_equal(vectors.vectors[1:4], FakeEncoder().embed(["soap. Soapy", "Nameless", "comb"]))


def test_no_title_is_embedded_twice(workspace: Workspace, embedded: list[str]) -> None:
    first = make_world(workspace, {0: [1, 2]}, ["soap", "comb"])
    refs = {"catalogue": first.catalogue.reference()}
    item_vectors.make(run(workspace), refs)
    assert sorted(embedded) == ["comb", "soap"]
    assert item_vectors.make(run(workspace), refs).unchanged
    more = make_world(workspace, {0: [1, 2]}, ["soap", "comb", "brush"])
    item_vectors.make(run(workspace), {"catalogue": more.catalogue.reference()})
    assert sorted(embedded) == ["brush", "comb", "soap"]


def test_an_encoder_that_is_not_there_is_found_out_before_anything_is_trained(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.*cannot be read as a BERT"):
        item_vectors.prepare(run(workspace, encoder=str(tmp_path / "empty")))
