"""The content score against its definition, one item after the other; and how γ is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from counter_world import ITEMS, random_titles, random_world

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import StorageError
from llmser_tasks.methods.additions import content, near_texts
from llmser_tasks.methods.additions.near_history import LATEST, NearHistory
from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.recommenders import Model, ranks, ranks_by_share, sampled_ranks, top_k, topk
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors

CPU = torch.device("cpu")
NEAREST = 3


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setattr(near_texts, "NEAREST", NEAREST)
    monkeypatch.setattr(near_texts, "TEXTS_AT_ONCE", 4)
    for name in ("TILE", "TOP_TILE"):
        monkeypatch.setattr(topk, name, (7, 5))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return make_model(Recommender(backbone="sasrec", dimension=8, layers=1, heads=1, max_length=8), ITEMS).eval()


def nearness(titles: ItemVectors) -> np.ndarray:
    """(I + 1, I + 1) of every item (second) to every owned one (first), by the definition."""
    near = np.zeros((ITEMS + 1, ITEMS + 1))
    for owned in np.flatnonzero(titles.titled):
        cosines = {
            titles.vectors[item].tobytes(): titles.vectors[item] @ titles.vectors[owned]
            for item in np.flatnonzero(titles.titled)
        }
        others = sorted(
            (value for key, value in cosines.items() if key != titles.vectors[owned].tobytes()), reverse=True
        )
        for item in np.flatnonzero(titles.titled):
            near[owned, item] = max(0, cosines[titles.vectors[item].tobytes()] - others[:NEAREST][-1])
    return near


def of_histories(near: np.ndarray, histories: Histories) -> np.ndarray:
    """(U, I + 1)"""
    scores = np.zeros((len(histories), ITEMS + 1))
    for row, history in enumerate(histories):
        for k, owned in enumerate(history[::-1][:LATEST], start=1):
            scores[row] = np.maximum(scores[row], near[owned] / np.sqrt(k))
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_largest_nearness_to_one_of_the_latest_texts(tmp_path: Path, seed: int) -> None:
    _, contexts, _, _ = random_world(seed)
    titles = random_titles(tmp_path, seed)
    likeness = NearHistory.to(contexts, NearTexts.among(titles), CPU)
    rows = np.array([3, 0, 17])
    np.testing.assert_allclose(
        likeness.tile(rows, 2, 9), of_histories(nearness(titles), contexts)[rows, 3:10], atol=1e-6
    )


def test_only_the_latest_items_count(tmp_path: Path) -> None:
    titles = random_titles(tmp_path, 0)
    histories = Histories.of([0, 1], [[1, 2] + [4] * (LATEST - 1), [2] + [4] * (LATEST - 1)])
    likeness = NearHistory.to(histories, NearTexts.among(titles), CPU).tile(np.arange(2), 0, ITEMS)
    assert torch.equal(likeness[0], likeness[1])


def test_items_with_the_same_text_are_equally_near(tmp_path: Path) -> None:
    titles = random_titles(tmp_path, 0)  # 3, 7 and 11 share one
    near = NearTexts.among(titles)
    found = NearHistory.to(Histories.of([0, 1], [[7], [3]]), near, CPU).tile(np.arange(2), 0, ITEMS).numpy()
    assert found[0, 2] == found[0, 6] == found[0, 10] > 0
    assert (found[0] == found[1]).all()


def test_a_list_stays_short_where_many_share_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_texts, "LISTED", 2)
    near = NearTexts.among(random_titles(tmp_path, 0))
    assert np.diff(near.starts).max() == 2
    of_three = slice(*near.starts[near.of[3] :][:2].tolist())
    assert near.ids[of_three].tolist() == [3, 7]


def test_a_catalogue_without_any_text_adds_nothing() -> None:
    bare = ItemVectors(np.zeros((ITEMS + 1, 4), np.float32), np.zeros(ITEMS + 1, bool))
    likeness = NearHistory.to(Histories.of([0], [[1, 2]]), NearTexts.among(bare), CPU)
    assert not likeness.tile(np.arange(1), 0, ITEMS).any()
    assert not likeness.of(np.arange(1), torch.tensor([[1, 5]])).any()


@pytest.mark.parametrize("seed", range(3))
def test_every_way_to_rank_counts_it_alike(tmp_path: Path, seed: int, model: Model) -> None:
    _, contexts, targets, negatives = random_world(seed)
    titles = random_titles(tmp_path, seed)
    gamma = np.where(contexts.lengths <= 4, 0.5, 2).astype(np.float32)
    likeness = NearHistory.to(contexts, NearTexts.among(titles), CPU).times(gamma)
    plain = [make_scores(model, history) for history in contexts]
    expected = np.stack(plain) + gamma[:, None] * of_histories(nearness(titles), contexts)

    exclude = contexts.select(np.arange(0, 40, 2))  # not everybody's
    items, scores = top_k(model, contexts, ITEMS, exclude, added=likeness)
    full = ranks(model, contexts, targets, exclude, likeness)
    sampled = sampled_ranks(model, contexts, targets, negatives, likeness)
    for row, target in enumerate(targets):
        away = set(contexts[row].tolist()) if row % 2 == 0 else set()
        there = [item for item in items[row].tolist() if item]
        assert sorted(there) == sorted(set(range(1, ITEMS + 1)) - away)
        np.testing.assert_allclose(scores[row, : len(there)], expected[row, there], atol=1e-4)
        before = [i for i in range(1, ITEMS + 1) if i != target and i not in away]
        assert full[row] == 1 + sum(expected[row, item] >= expected[row, target] - 1e-6 for item in before)
        drawn = [i for i in negatives[row] if i]
        assert sampled[row] == 1 + sum(expected[row, item] >= expected[row, target] - 1e-6 for item in drawn)


def make_scores(model: Model, history: np.ndarray) -> np.ndarray:
    shown = torch.tensor(history[-model.max_length :].astype(np.int64))[None]
    with torch.no_grad():
        scores: np.ndarray = (model.encode(shown, torch.tensor([shown.shape[1]]))[0] @ model.table.T).numpy()
    return scores


def test_the_grid_is_ranked_as_served(tmp_path: Path, model: Model) -> None:
    _, contexts, targets, _ = random_world(0)
    likeness = NearHistory.to(contexts, NearTexts.among(random_titles(tmp_path, 0)), CPU)
    found = ranks_by_share(model, contexts, targets, contexts, likeness, content.GRID)
    for gamma, of_gamma in zip(content.GRID, found, strict=True):
        served = likeness.times(np.full(len(contexts), gamma, np.float32))
        assert (of_gamma == ranks(model, contexts, targets, contexts, served)).all()


def test_each_group_gets_the_gamma_that_is_best_for_it() -> None:
    ranks = np.full((len(content.GRID), 4), 20, np.int32)
    ranks[3, :2], ranks[5, 2:] = 1, 3
    chosen, said = content.choose(ranks, np.array([1, 2, 3, 9]), threshold=2)
    assert (chosen.tail, chosen.head, chosen.threshold) == (content.GRID[3], content.GRID[5], 2)
    assert said["ndcg"] == pytest.approx((2 * 1 + 2 * 0.5) / 4) and said["ndcg_without"] == 0
    assert said["groups"]["tail"]["users"] == 2 and said["groups"]["head"]["ndcg"][5] == 0.5


def test_gamma_is_0_where_it_does_not_help_and_where_there_is_nobody() -> None:
    chosen, said = content.choose(np.full((len(content.GRID), 2), 4, np.int32), np.array([1, 1]), threshold=3)
    assert (chosen.tail, chosen.head) == (0, 0) and said["ndcg"] == said["ndcg_without"] > 0


def test_the_folder_is_all_that_serving_needs(tmp_path: Path) -> None:
    titles = random_titles(tmp_path, 0)
    NearTexts.among(titles).write(tmp_path)
    (tmp_path / content.FILE).write_text('{"tail": 2, "head": 0.5, "threshold": 1}')
    histories = Histories.of([4, 7], [[3], [3, 1]])
    found = content.added(tmp_path, histories, CPU).tile(np.arange(2), 0, ITEMS)
    plain = of_histories(nearness(titles), histories)[:, 1:]
    np.testing.assert_allclose(found, plain * [[2], [0.5]], atol=1e-6)


@pytest.mark.parametrize("damaged", [content.FILE, near_texts.FILE])
def test_a_damaged_folder_is_said_in_a_sentence(tmp_path: Path, damaged: str) -> None:
    NearTexts.among(random_titles(tmp_path, 0)).write(tmp_path)
    (tmp_path / content.FILE).write_text('{"tail": 2, "head": 0.5, "threshold": 1}')
    (tmp_path / damaged).write_text("{")
    with pytest.raises(StorageError, match=f"{damaged} cannot be read"):
        content.added(tmp_path, Histories.of([0], [[1]]), CPU)
