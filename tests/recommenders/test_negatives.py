"""Negatives: where they come from, what each stands for, and that the seed decides them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmser_tasks.recommenders.negatives import (
    BatchPositives,
    Sampler,
    SharedPopular,
    SharedUniform,
    UnseenUniform,
    target_counts,
)
from llmser_tasks.sequences.histories import Histories

CPU = torch.device("cpu")


def test_unseen_items_are_drawn_uniformly() -> None:
    histories = Histories.of([4, 9, 11], [[3, 1, 3, 8], [10, 9], []])
    sampler = UnseenUniform(histories, items=10, count=5, device=CPU)
    rows = torch.arange(3).repeat_interleave(4000)
    drawn = sampler.draw(rows, rows, torch.Generator().manual_seed(0)).items
    assert drawn.shape == (12000, 5)
    for row, history in enumerate(histories):
        counts = np.bincount(drawn[rows == row].flatten().numpy(), minlength=11)
        unseen = np.setdiff1d(np.arange(1, 11), history)
        assert counts[0] == 0 and counts[history].sum() == 0
        np.testing.assert_allclose(counts[unseen] / 20000, 1 / len(unseen), rtol=0.08)


def test_a_user_who_has_everything_gets_any_item() -> None:
    sampler = UnseenUniform(Histories.of([0, 1], [[1, 2, 3], [2]]), items=3, count=50, device=CPU)
    rows = torch.tensor([0, 1])
    drawn = sampler.draw(rows, rows, torch.Generator().manual_seed(0)).items
    assert set(drawn[0].tolist()) == {1, 2, 3}
    assert set(drawn[1].tolist()) == {1, 3}


# item 1 is first only, 2 a target twice, 3 and 5 once, 4 never
HISTORIES = Histories.of([0, 1, 2], [[1, 2, 3], [1, 2], [4, 5]])
POSITIVES = torch.tensor([2, 2, 3])


def samplers(items: int, count: int) -> list[Sampler]:
    counts = target_counts(HISTORIES, items)
    return [SharedUniform(items, count), SharedPopular(counts, count, CPU), BatchPositives(counts, count, CPU)]


@pytest.mark.parametrize("sampler", samplers(50, 40), ids=lambda sampler: type(sampler).__name__)
def test_shared_draws_are_distinct_ascending_and_the_seeds(sampler: Sampler) -> None:
    first, again, other = (
        sampler.draw(torch.zeros(3, dtype=torch.long), POSITIVES, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert (first.items.diff() > 0).all() and first.items.min() >= 1 and first.items.max() <= 50
    assert first.log_weight is not None and again.log_weight is not None
    assert torch.equal(first.items, again.items) and torch.equal(first.log_weight, again.log_weight)
    assert not torch.equal(first.items, other.items)


def test_uniform_draws_weigh_as_often_as_they_came() -> None:
    negatives = SharedUniform(50, 40).draw(POSITIVES, POSITIVES, torch.Generator().manual_seed(0))
    assert negatives.log_weight is not None
    torch.testing.assert_close(negatives.log_weight.exp().sum(), torch.tensor(50.0))


def test_targets_are_what_comes_after_something() -> None:
    assert target_counts(HISTORIES, 6).tolist() == [0, 0, 2, 1, 0, 1, 0]
    assert target_counts(HISTORIES, 6, np.array([2, 0, 1])).tolist() == [0, 0, 1, 1, 0, 1, 0]
    assert target_counts(Histories.of([0, 1], [[], [2]]), 3).tolist() == [0, 0, 0, 0]


def test_popular_items_are_drawn_by_their_count_plus_one() -> None:
    """Six items of counts 0, 2, 1, 0, 1, 0: of four draws item 2 gets 4 · 3/10."""
    sampler = SharedPopular(target_counts(HISTORIES, 6), 4, CPU)
    generator, drawn = torch.Generator().manual_seed(0), torch.zeros(7)
    quotas = torch.tensor([0, 1, 3, 2, 1, 2, 1]) * 4 / 10
    for _ in range(4000):
        negatives = sampler.draw(POSITIVES, POSITIVES, generator)
        assert negatives.log_weight is not None
        times = negatives.log_weight.exp() * quotas[negatives.items]  # a draw stands for the inverse of its quota
        torch.testing.assert_close(times, times.round())
        drawn[negatives.items] += times
    torch.testing.assert_close(drawn / 4000, quotas, rtol=0.06, atol=0)


def test_the_batchs_positives_are_all_there_with_uniform_ones() -> None:
    negatives = BatchPositives(target_counts(HISTORIES, 100), 5, CPU).draw(
        POSITIVES, POSITIVES, torch.Generator().manual_seed(0)
    )
    items = negatives.items.tolist()
    assert {2, 3} < set(items) and len(items) <= 7
    assert negatives.log_weight is not None
    weight = dict(zip(items, negatives.log_weight.exp().tolist(), strict=True))
    assert weight[2] == pytest.approx(2 / (3 * 2 / 4 + 5 / 100))  # twice; of three positives half are expected to be 2
    assert weight[max(items)] == pytest.approx(100 / 5)  # never a target: only the uniform draws bring it
