"""Batches: the newest items, trimmed to the longest row; every user once an epoch, like with like."""

from __future__ import annotations

import numpy as np
import torch

from llmser_tasks.recommenders.batches import Sequences, plan_epoch
from llmser_tasks.sequences.histories import Histories

CPU = torch.device("cpu")


def test_rows_keep_their_newest_items_and_are_padded_to_the_longest() -> None:
    sequences = Sequences.of(Histories.of([2, 5, 9], [[1, 2, 3, 4, 5], [], [7, 8]]), CPU)
    tokens, lengths = sequences.gather(torch.tensor([2, 0, 1]), most=4)
    assert tokens.tolist() == [[7, 8, 0, 0], [2, 3, 4, 5], [0, 0, 0, 0]]
    assert lengths.tolist() == [2, 4, 0]
    assert sequences.gather(torch.tensor([2]), most=4)[0].shape == (1, 2)
    assert sequences.gather(torch.tensor([1]), most=4)[0].tolist() == [[0]]


def test_histories_without_any_item_can_be_gathered() -> None:
    tokens, lengths = Sequences.of(Histories.of([1], [[]]), CPU).gather(torch.tensor([0]), most=4)
    assert tokens.tolist() == [[0]] and lengths.tolist() == [0]


def test_an_epoch_holds_every_row_once_and_little_padding() -> None:
    cost = np.random.default_rng(0).geometric(0.15, 3000)
    batches = plan_epoch(cost, 64, seed=1)
    assert sorted(np.concatenate(batches)) == list(range(3000))
    assert max(map(len, batches)) == 64
    padded = sum(cost[batch].max() * len(batch) for batch in batches)
    assert padded < 1.3 * cost.sum()
    first = [cost[batch].mean() for batch in batches]
    assert (np.diff(first) < 0).any()  # the batches themselves are not in order of length


def test_the_seed_decides_the_plan() -> None:
    cost = np.arange(100)
    same = [np.concatenate(plan_epoch(cost, 8, seed)) for seed in (1, 1, 2)]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])
