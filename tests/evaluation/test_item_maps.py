from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluated_world import ITEMS, Trained

from llmser_tasks.core.names import about_item_map
from llmser_tasks.evaluation import item_maps
from llmser_tasks.evaluation.item_maps import (
    NEAREST,
    Shown,
    principal_places,
    read_maps,
    silhouette,
    text_overlap,
    write_maps,
)
from llmser_tasks.texts.vectors import ItemVectors


def random_table(rows: int = 60, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * torch.arange(width, 0, -1)


# Places


def test_places_are_the_first_two_principal_components_whatever_sign_the_library_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, every = random_table(), np.arange(60)
    places, shares = principal_places(table, every)
    centred = table.double().numpy() - table.double().numpy().mean(0)
    _, deviations, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    for column in range(2):
        assert abs(np.corrcoef(places[:, column], expected[:, column])[0, 1]) > 0.999
    assert shares == pytest.approx(tuple(deviations[:2] ** 2 / (deviations**2).sum()))
    assert np.abs(places).max() == 1
    solved = torch.linalg.eigh

    def flipped(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = solved(matrix)
        return values, -vectors

    monkeypatch.setattr(torch.linalg, "eigh", flipped)
    assert (principal_places(table, every)[0] == places).all()


def test_places_are_of_the_whole_table_whoever_is_shown() -> None:
    table = random_table()
    every, _ = principal_places(table, np.arange(60))
    some, _ = principal_places(table, np.arange(0, 60, 2))
    along = np.polyfit(every[::2].ravel(), some.ravel(), 1)
    assert some == pytest.approx(np.polyval(along, every[::2]), abs=3e-3), "but for one scale"


@pytest.mark.parametrize(
    ("table", "held"),
    [
        (torch.ones(12, 4), [0, 0]),
        (torch.arange(12.0)[:, None] * torch.ones(4), [1, 0]),
        (torch.arange(12.0)[:, None], [1, 0]),
    ],
)
def test_a_table_of_fewer_than_two_directions_has_a_map(table: torch.Tensor, held: list[float]) -> None:
    places, shares = principal_places(table, np.arange(12))
    assert shares == pytest.approx(tuple(held), abs=1e-9)
    assert places.shape == (12, 2) and np.isfinite(places).all() and not places[:, 1].any()


# Numbers beside it


def test_silhouette_is_that_of_its_definition() -> None:
    vectors = random_table(40).double().numpy()
    head = np.random.default_rng(1).random(40) < 0.3
    vectors[head] += 3
    each = []
    for row in range(40):
        distances = np.linalg.norm(vectors - vectors[row], axis=1)
        others = head == head[row]
        others[row] = False
        own, other = distances[others].mean(), distances[head != head[row]].mean()
        each.append((other - own) / max(own, other))
    assert silhouette(vectors, head) == pytest.approx(np.mean(each))


def test_silhouette_of_two_places_is_one_and_an_only_item_counts_nothing() -> None:
    head = np.array([True, True, False, False])
    assert silhouette(np.array([[0.0], [0.0], [5.0], [5.0]]), head) == pytest.approx(1)
    assert silhouette(np.array([[0.0], [5.0], [5.0]]), np.array([True, False, False])) == pytest.approx(2 / 3)
    assert silhouette(np.zeros((4, 2)), head) == 0
    assert silhouette(np.zeros((4, 2)), np.ones(4, bool)) is None


def test_near_by_text_are_as_many_as_the_ten_nearest_share() -> None:
    texts = torch.nn.functional.normalize(random_table(60)).numpy()
    assert text_overlap(texts.astype(float) * 7, texts) == (1, pytest.approx(NEAREST / 59))
    vectors = random_table(60, seed=5).double().numpy()
    ours = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = [np.argsort(-(one @ one.T) + 9 * np.eye(60), axis=1)[:, :NEAREST] for one in (ours, texts)]
    expected = np.mean([len({*a} & {*b}) / NEAREST for a, b in zip(*nearest, strict=True)])
    assert text_overlap(vectors, texts)[0] == pytest.approx(expected)


def test_items_without_a_text_are_nobody_s_neighbours_and_few_texts_say_nothing() -> None:
    texts = torch.nn.functional.normalize(random_table(60)).numpy()
    texts[30:] = 0
    vectors = texts.astype(float)
    vectors[30:] = vectors[:30] + 1e-6
    assert text_overlap(vectors, texts) == (1, pytest.approx(NEAREST / 29))
    texts[NEAREST:] = 0
    assert text_overlap(vectors, texts) == (None, None)


# Of a run


def test_of_a_large_catalogue_a_seeded_sample_is_shown() -> None:
    counts = np.random.default_rng(0).integers(0, 9, item_maps.MOST * 3)
    shown = Shown.of(counts, 42)
    assert len(shown.items) == item_maps.MOST == len(np.unique(shown.items)) and shown.items.min() >= 1
    assert (shown.counts == counts[shown.items]).all() and 0 < shown.head.sum() < item_maps.MOST / 2
    assert (Shown.of(counts, 42).items == shown.items).all()
    assert (Shown.of(counts, 43).items != shown.items).any()
    assert Shown.of(counts[:7], 42).items.tolist() == [1, 2, 3, 4, 5, 6]


def test_an_evaluation_has_a_map_of_every_model_with_the_same_items(trained: Trained) -> None:
    folder = trained.workspace.folder(trained.evaluated())
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["seed"], row["items"]) for row in facts["item_maps"]] == [
        ("base", 42, ITEMS), ("llmser", 42, ITEMS)
    ]  # fmt: skip
    maps = read_maps(folder)
    base, llmser = maps["base"], maps["llmser"]
    assert base.items.tolist() == llmser.items.tolist() == list(range(1, ITEMS + 1))
    assert base.heads == llmser.heads and sum(base.heads) == facts["item_maps"][0]["head"] == 6
    assert base.counts == trained.world.histories.counts(ITEMS)[1:].tolist()
    assert base.places != llmser.places
    for row in facts["item_maps"]:
        assert 0 < sum(row["shares"]) <= 1 and -1 <= row["silhouette"] <= 1
        assert 0 <= row["overlap"] <= 1 and row["chance"] == pytest.approx(NEAREST / 28), "one item has no title"


def test_without_vectors_of_texts_there_is_a_map_without_what_they_say(trained: Trained, tmp_path: Path) -> None:
    counts = trained.world.histories.counts(ITEMS)
    said = write_maps(tmp_path, {"base": trained.folder("base/42")}, counts, 42, None)
    assert said[0]["overlap"] is said[0]["chance"] is None
    assert pq.read_metadata(tmp_path / item_maps.FILE).num_rows == ITEMS


def test_a_table_of_no_numbers_has_no_map_and_that_is_said(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from llmser_tasks import recommenders

    load = recommenders.load

    def diverged(folder: Path) -> recommenders.Model:
        model = load(folder)
        with torch.no_grad():
            next(iter(model.item_table.per_item().values()))[3] = torch.nan
        return model

    monkeypatch.setattr(recommenders, "load", diverged)
    counts, texts = trained.world.histories.counts(ITEMS), ItemVectors.read(trained.folder("item-vectors"))
    assert write_maps(tmp_path, {"base": trained.folder("base/42")}, counts, 42, texts) == []
    assert read_maps(tmp_path) == {}
    assert "The item table of base holds numbers that are not finite, so it has no map." in caplog.text


def test_evaluations_from_before_there_were_maps_have_none(tmp_path: Path) -> None:
    assert read_maps(tmp_path) == {}


def test_a_map_is_told_in_words() -> None:
    assert about_item_map([0.25, 0.125], 0.04, 0.305, 0.01) == (
        "The picture holds 37.5\N{NO-BREAK SPACE}% of the table's variance. "
        "Head and tail items are mixed (silhouette +0.04). Of an item's ten nearest, 30.5\N{NO-BREAK SPACE}% are among "
        "the ten nearest to it by text (1.0\N{NO-BREAK SPACE}% by chance)."
    )
    told = about_item_map([0.5, 0.25], None, None, None)
    assert told.endswith("There are head items alone or tail items alone.")
