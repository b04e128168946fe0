"""The losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import torch

from llmser_tasks.recommenders.losses import LOSSES, bce, sampled_softmax
from llmser_tasks.recommenders.negatives import Negatives, SharedUniform


def world() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 8), torch.tensor([2, 5, 5, 9]), torch.randn(11, 8)


def test_bce_is_equation_7() -> None:
    states, positives, table = world()
    negatives = torch.tensor([[1, 3], [4, 4], [10, 6], [7, 8]])
    losses = bce(states, positives, Negatives(negatives), table)
    for p in range(4):
        expected = -torch.log(torch.sigmoid(states[p] @ table[positives[p]]))
        for k in negatives[p]:
            expected -= torch.log(1 - torch.sigmoid(states[p] @ table[k]))
        torch.testing.assert_close(losses[p], expected)


def test_sampled_softmax_leaves_the_positive_out_of_the_negatives() -> None:
    states, positives, table = world()
    shared = torch.tensor([1, 3, 5, 10])
    weights = torch.tensor([2.0, 1.0, 3.0, 1.0])
    losses = sampled_softmax(states, positives, Negatives(shared, weights.log()), table)
    for p in range(4):
        score = states[p] @ table[positives[p]]
        others = sum(
            w * torch.exp(states[p] @ table[k]) for k, w in zip(shared, weights, strict=True) if k != positives[p]
        )
        torch.testing.assert_close(losses[p], -torch.log(torch.exp(score) / (torch.exp(score) + others)))


def test_with_the_whole_catalogue_it_is_cross_entropy() -> None:
    states, positives, table = world()
    states.requires_grad_(), table.requires_grad_()
    negatives = SharedUniform(10, 1024).draw(torch.zeros(4, dtype=torch.long), torch.Generator())
    losses = sampled_softmax(states, positives, negatives, table)
    expected = torch.nn.functional.cross_entropy(states @ table[1:].T, positives - 1, reduction="none")
    torch.testing.assert_close(losses, expected)
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0])
    found = torch.autograd.grad((losses * weights).sum(), [states, table])
    wanted = torch.autograd.grad((expected * weights).sum(), [states, table])
    torch.testing.assert_close(found, wanted)


def test_where_only_the_positive_was_drawn_there_is_nothing_to_lose() -> None:
    states, _, table = world()
    states.requires_grad_()
    losses = sampled_softmax(states, torch.tensor([5, 5, 5, 5]), Negatives(torch.tensor([5]), torch.zeros(1)), table)
    assert torch.autograd.grad(losses.sum(), states)[0].eq(0).all() and losses.eq(0).all()


def test_the_weights_make_the_partition_function_unbiased() -> None:
    states, _, table = world()
    sampler = SharedUniform(10, 6)
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros(4)
    for _ in range(4000):
        negatives = sampler.draw(torch.zeros(4, dtype=torch.long), generator)
        assert negatives.log_weight is not None
        total += torch.exp(states @ table[negatives.items].T + negatives.log_weight).sum(1)
    exact = torch.exp(states @ table[1:].T).sum(1)
    torch.testing.assert_close(total / 4000, exact, rtol=0.1, atol=0)


def test_every_loss_gives_one_finite_value_and_a_gradient_per_position() -> None:
    states, positives, table = world()
    for name, loss in LOSSES.items():
        scaled = (states * 100).requires_grad_()  # scores far beyond where exp overflows
        if name == "bce":
            negatives = Negatives(torch.tensor([[1], [2], [3], [4]]))
        else:
            negatives = Negatives(torch.arange(1, 5), torch.full((4,), math.log(2.5)))
        losses = loss(scaled, positives, negatives, table)
        assert losses.shape == (4,)
        losses.sum().backward()
        assert torch.isfinite(losses).all() and scaled.grad is not None and torch.isfinite(scaled.grad).all()
