"""Negatives: uniform, never from the user's own history, reproducible."""

from __future__ import annotations

import numpy as np
import torch

from llmser_tasks.recommenders.negatives import SharedUniform, UnseenUniform
from llmser_tasks.sequences.histories import Histories

CPU = torch.device("cpu")


def test_unseen_items_are_drawn_uniformly() -> None:
    histories = Histories.of([4, 9, 11], [[3, 1, 3, 8], [10, 9], []])
    sampler = UnseenUniform(histories, items=10, count=5, device=CPU)
    rows = torch.arange(3).repeat_interleave(4000)
    drawn = sampler.draw(rows, torch.Generator().manual_seed(0)).items
    assert drawn.shape == (12000, 5)
    for row, history in enumerate(histories):
        counts = np.bincount(drawn[rows == row].flatten().numpy(), minlength=11)
        unseen = np.setdiff1d(np.arange(1, 11), history)
        assert counts[0] == 0 and counts[history].sum() == 0
        np.testing.assert_allclose(counts[unseen] / 20000, 1 / len(unseen), rtol=0.08)


def test_a_user_who_has_everything_gets_any_item() -> None:
    sampler = UnseenUniform(Histories.of([0, 1], [[1, 2, 3], [2]]), items=3, count=50, device=CPU)
    drawn = sampler.draw(torch.tensor([0, 1]), torch.Generator().manual_seed(0)).items
    assert set(drawn[0].tolist()) == {1, 2, 3}
    assert set(drawn[1].tolist()) == {1, 3}


def test_shared_draws_are_distinct_and_weighted_by_how_often_they_came() -> None:
    sampler = SharedUniform(items=50, count=40)
    negatives = sampler.draw(torch.zeros(3, dtype=torch.long), torch.Generator().manual_seed(0))
    assert negatives.log_weight is not None
    assert (negatives.items.diff() > 0).all() and negatives.items.min() >= 1 and negatives.items.max() <= 50
    torch.testing.assert_close(negatives.log_weight.exp().sum(), torch.tensor(50.0))
    again = sampler.draw(torch.zeros(3, dtype=torch.long), torch.Generator().manual_seed(0))
    assert torch.equal(again.items, negatives.items)


def test_a_catalogue_smaller_than_the_sample_is_taken_whole() -> None:
    negatives = SharedUniform(items=7, count=7).draw(torch.zeros(1, dtype=torch.long), torch.Generator())
    assert negatives.items.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert negatives.log_weight is not None and not negatives.log_weight.any()
