"""Top-k and ranks against a slow reading of their definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Model, ranks, ranks_by_share, sampled_ranks, top_k, topk
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.sequences.histories import Histories

ITEMS = 25


@pytest.fixture
def model(small: Recommender) -> Model:
    torch.manual_seed(0)
    model = make_model(small, ITEMS).eval()
    with torch.no_grad():
        model.item_table.all()[1:].normal_()
        model.table[9] = model.table[4]  # items 4 and 9 always tie
    return model


@pytest.fixture
def contexts() -> Histories:
    return Histories.of([2, 3, 5, 8], [[1, 2, 3], [7], list(range(1, 21)), [4, 9, 4]])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TILE", "TOP_TILE"):  # more than one block and more than one tile; items 4 and 9 in different ones
        monkeypatch.setattr(topk, name, (3, 8))
    monkeypatch.setattr(topk, "SCORES", 3 * ITEMS)


@dataclass(frozen=True)
class Given:
    """Adds fixed numbers (U, I + 1)."""

    numbers: torch.Tensor

    def tile(self, rows: np.ndarray, first: int, last: int) -> torch.Tensor:
        return self.numbers[rows, first + 1 : last + 1]

    def of(self, rows: np.ndarray, candidates: torch.Tensor) -> torch.Tensor:
        return self.numbers[rows].gather(1, candidates)


@pytest.fixture
def given(contexts: Histories) -> Given:
    """Items 4 and 9 tie here, too; item 6 is ruled out for everybody."""
    numbers = 3 * torch.randn(len(contexts), ITEMS + 1, generator=torch.Generator().manual_seed(3))
    numbers[:, 9], numbers[:, 6] = numbers[:, 4], -torch.inf
    return Given(numbers)


def scores_of(model: Model, contexts: Histories) -> np.ndarray:
    rows = []
    with torch.no_grad():
        for context in contexts:
            shown = torch.tensor(context[-model.max_length :].astype(np.int64))[None]
            rows.append(model.encode(shown, torch.tensor([shown.shape[1]]))[0] @ model.table.T)
    return torch.stack(rows).numpy()


def test_top_k_is_the_best_items_that_are_not_excluded_in_rank_order(model: Model, contexts: Histories) -> None:
    exclude = Histories.of([2, 5, 9], [[1, 2, 3, 3], list(range(1, 21)), [6]])
    items, scores = top_k(model, contexts, 6, exclude)
    expected = scores_of(model, contexts)
    for row, user in enumerate(contexts.users):
        known = {2: {1, 2, 3}, 5: set(range(1, 21))}.get(int(user), set())
        allowed = [item for item in range(1, ITEMS + 1) if item not in known]
        best = sorted(allowed, key=lambda item: (-round(float(expected[row, item]), 5), item))[:6]
        found = [item for item in items[row] if item]
        assert found == best[: len(found)]
        assert len(found) == min(6, len(allowed))
        np.testing.assert_allclose(scores[row, : len(found)], expected[row, found], rtol=1e-4, atol=1e-5)
    assert items.dtype == np.int32 and scores.dtype == np.float32
    assert items[2].tolist()[5] == 0 and scores[2, 5] == -np.inf  # five items are left for user 5


def test_k_beyond_the_catalogue_is_padded(model: Model, contexts: Histories) -> None:
    items, scores = top_k(model, contexts, ITEMS + 3, Histories.of([], []))
    assert (np.sort(items[0])[3:] == np.arange(1, ITEMS + 1)).all()
    assert not items[:, ITEMS:].any() and np.isneginf(scores[:, ITEMS:]).all()
    assert (np.diff(scores[:, :ITEMS], axis=1) <= 0).all()


def test_ranks_count_ties_against_the_model_and_never_exclude_the_target(model: Model, contexts: Histories) -> None:
    exclude = Histories.of([2, 5, 8], [[1, 2, 3], list(range(1, 21)), [4, 6]])
    targets = np.array([4, 9, 20, 4], np.int32)  # user 5's and user 8's targets stand in what is excluded
    found = ranks(model, contexts, targets, exclude)
    scores = scores_of(model, contexts)
    for row, user in enumerate(contexts.users):
        known = {2: {1, 2, 3}, 5: set(range(1, 21)), 8: {4, 6}}.get(int(user), set())
        target = targets[row]
        others = [item for item in range(1, ITEMS + 1) if item != target and item not in known]
        before = sum(scores[row, item] >= scores[row, target] - 1e-6 for item in others)
        assert found[row] == 1 + before
    assert found.dtype == np.int32


def test_a_tie_is_lost(model: Model) -> None:
    contexts = Histories.of([0, 1], [[4], [4]])
    nothing = Histories.of([], [])
    rank = ranks(model, contexts, np.array([4, 9], np.int32), nothing)
    assert rank[0] == rank[1] >= 2
    assert sampled_ranks(model, contexts, np.array([4, 9], np.int32), np.array([[9], [4]], np.int32)).tolist() == [2, 2]


def test_a_score_that_is_no_number_ranks_last(model: Model) -> None:
    with torch.no_grad():
        model.table[7] = torch.nan
    contexts = Histories.of([0], [[4]])
    assert ranks(model, contexts, np.array([7], np.int32), Histories.of([], [])).tolist() == [ITEMS]


def test_sampled_ranks(model: Model, contexts: Histories) -> None:
    targets = np.array([5, 6, 22, 24], np.int32)
    negatives = np.array([[8, 10, 5], [11, 0, 0], [1, 2, 3], [12, 13, 14]], np.int32)
    found = sampled_ranks(model, contexts, targets, negatives)
    scores = scores_of(model, contexts)
    for row in range(4):
        others = [item for item in negatives[row] if item not in (0, targets[row])]
        assert found[row] == 1 + sum(scores[row, item] >= scores[row, targets[row]] for item in others)


def test_an_empty_context_prefers_nothing(model: Model) -> None:
    contexts = Histories.of([0, 1], [[], [3, 4]])
    nothing = Histories.of([], [])
    assert ranks(model, contexts, np.array([3, 3], np.int32), nothing)[0] == ITEMS
    _, scores = top_k(model, contexts, 3, nothing)
    assert scores[0].tolist() == [0, 0, 0]


def test_no_users_at_all(model: Model) -> None:
    nobody = Histories.of([], [])
    items, _ = top_k(model, nobody, 3, nobody)
    assert items.shape == (0, 3)
    assert ranks(model, nobody, np.zeros(0, np.int32), nobody).shape == (0,)


def test_scoring_leaves_no_trace_on_the_mode(model: Model, contexts: Histories) -> None:
    model.train()
    first = ranks(model, contexts, np.array([4, 9, 20, 4], np.int32), contexts)
    assert model.training
    assert np.array_equal(first, ranks(model, contexts, np.array([4, 9, 20, 4], np.int32), contexts))


EXCLUDED = ([2, 5, 8], [[1, 2, 3, 3], list(range(1, 21)), [4, 6]])


def test_what_is_added_counts_in_top_k(model: Model, contexts: Histories, given: Given) -> None:
    items, scores = top_k(model, contexts, 8, Histories.of(*EXCLUDED), added=given)
    expected = scores_of(model, contexts) + given.numbers.numpy()
    away = {user: {6, *known} for user, known in zip(*EXCLUDED, strict=True)}
    for row, user in enumerate(contexts.users):
        allowed = [item for item in range(1, ITEMS + 1) if item not in away.get(int(user), {6})]
        best = sorted(allowed, key=lambda item: (-round(float(expected[row, item]), 5), item))[:8]
        assert items[row, : len(best)].tolist() == best
        np.testing.assert_allclose(scores[row, : len(best)], expected[row, best], rtol=1e-4, atol=1e-5)
        assert not items[row, len(best) :].any() and np.isneginf(scores[row, len(best) :]).all()


def test_what_is_added_counts_in_ranks(model: Model, contexts: Histories, given: Given) -> None:
    targets = np.array([4, 9, 20, 4], np.int32)
    found = ranks(model, contexts, targets, Histories.of(*EXCLUDED), given)
    scores = scores_of(model, contexts) + given.numbers.numpy()
    away = {user: set(known) for user, known in zip(*EXCLUDED, strict=True)}
    for row, (user, target) in enumerate(zip(contexts.users, targets, strict=True)):
        others = [i for i in range(1, ITEMS + 1) if i != target and i not in away.get(int(user), set())]
        assert found[row] == 1 + sum(scores[row, item] >= scores[row, target] - 1e-6 for item in others)


def test_what_is_added_counts_in_sampled_ranks(model: Model, contexts: Histories, given: Given) -> None:
    targets = np.array([5, 4, 22, 24], np.int32)
    negatives = np.array([[8, 10, 5, 6], [9, 0, 0, 0], [1, 2, 3, 4], [12, 13, 14, 15]], np.int32)
    found = sampled_ranks(model, contexts, targets, negatives, given)
    scores = scores_of(model, contexts) + given.numbers.numpy()
    for row in range(4):
        others = [item for item in negatives[row] if item not in (0, targets[row])]
        assert found[row] == 1 + sum(scores[row, item] >= scores[row, targets[row]] - 1e-6 for item in others)


def test_a_target_that_is_ruled_out_ranks_last(model: Model, contexts: Histories, given: Given) -> None:
    assert ranks(model, contexts, np.full(4, 6, np.int32), Histories.of([], []), given).tolist() == [ITEMS] * 4


def test_after_an_empty_history_what_is_added_decides_alone(model: Model) -> None:
    numbers = torch.zeros(1, ITEMS + 1)
    numbers[0, 7], numbers[0, 3] = 2, 1
    nobody, nothing = Histories.of([0], [[]]), Histories.of([], [])
    items, scores = top_k(model, nobody, 3, nothing, added=Given(numbers))
    assert items[0, :2].tolist() == [7, 3] and scores.tolist() == [[2, 1, 0]]
    assert ranks(model, nobody, np.array([3], np.int32), nothing, Given(numbers)).tolist() == [2]


def test_adding_zeros_changes_no_bit(model: Model, contexts: Histories) -> None:
    nothing, zeros = Histories.of([], []), Given(torch.zeros(len(contexts), ITEMS + 1))
    for plain, added in zip(
        top_k(model, contexts, 9, nothing), top_k(model, contexts, 9, nothing, added=zeros), strict=True
    ):
        np.testing.assert_array_equal(plain, added)


def test_ranks_of_several_shares_are_those_of_each(model: Model, contexts: Histories, given: Given) -> None:
    finite = Given(given.numbers.nan_to_num(neginf=-50))
    targets, exclude = np.array([4, 9, 20, 4], np.int32), Histories.of(*EXCLUDED)
    found = ranks_by_share(model, contexts, targets, exclude, finite, [0, 0.5, 3])
    assert found[0].tolist() == ranks(model, contexts, targets, exclude).tolist()
    for share, of_share in zip((0.5, 3), found[1:], strict=True):
        each = ranks(model, contexts, targets, exclude, Given(finite.numbers * share))
        assert of_share.tolist() == each.tolist()
