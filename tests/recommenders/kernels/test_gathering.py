"""Batches: the newest items, trimmed to the longest row; every user once an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from llmser_tasks.recommenders.loop.minibatches import GROUP_TOKENS, Sequences, length_groups, plan_epoch
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


def test_an_epoch_holds_every_row_once() -> None:
    rows = np.arange(0, 3000, 3)
    batches = plan_epoch(rows, 64, seed=1)
    assert [len(batch) for batch in batches] == [64] * 15 + [40]
    assert np.array_equal(np.sort(np.concatenate(batches)), rows)


def test_the_seed_decides_the_plan() -> None:
    same = [np.concatenate(plan_epoch(np.arange(100), 8, seed)) for seed in (1, 1, 2)]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])


def test_length_groups_cost_least() -> None:
    def cost(lengths: np.ndarray, groups: list[slice]) -> int:
        return sum(lengths[group].max() * len(lengths[group]) + GROUP_TOKENS for group in groups)

    random = np.random.default_rng(0)
    for _ in range(20):
        lengths = np.sort(random.integers(1, 60, 9))
        groups = length_groups(lengths)
        assert np.array_equal(np.concatenate([np.arange(9)[group] for group in groups]), np.arange(9))
        cuts = itertools.chain.from_iterable(itertools.combinations(range(1, 9), n) for n in range(9))
        every = ([slice(*pair) for pair in itertools.pairwise((0, *cut, 9))] for cut in cuts)
        assert cost(lengths, groups) == min(cost(lengths, choice) for choice in every)


def test_a_long_tail_is_padded_little() -> None:
    lengths = np.sort(np.minimum(np.random.default_rng(0).geometric(0.15, 128), 50))
    groups = length_groups(lengths)
    assert 2 <= len(groups) <= 6
    assert sum(lengths[group].max() * len(lengths[group]) for group in groups) < 1.4 * lengths.sum()
