"""The losses against their formulas, written out by hand, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from llmser_tasks.core.config import NegativesFrom, Recommender
from llmser_tasks.core.kinds import LOSSES
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.losses import cross_entropy as whole
from llmser_tasks.recommenders.losses import make_loss, make_sampler, partition
from llmser_tasks.recommenders.losses.bce import bce
from llmser_tasks.recommenders.losses.cross_entropy import cross_entropy
from llmser_tasks.recommenders.losses.gbce import gbce
from llmser_tasks.recommenders.losses.sampled_softmax import sampled_softmax
from llmser_tasks.recommenders.negatives import Negatives, Sampler, WholeCatalogue
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.recommenders.terms.term import WeightedTerm
from llmser_tasks.sequences.histories import Histories

ITEMS = 10
CPU = torch.device("cpu")
OWN = torch.tensor([[1, 3, 7], [4, 4, 1], [10, 6, 2], [7, 8, 8]])  # per position, one item twice
SHARED = torch.tensor([1, 3, 5, 10])  # item 5 is a positive
WEIGHTS = torch.tensor([2.0, 1.0, 3.0, 0.5], dtype=torch.float64)
SHARED_NEGATIVES = Negatives(SHARED, WEIGHTS.log())


def world() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 8, dtype=torch.float64, generator=generator).requires_grad_()
    table = torch.randn(ITEMS + 1, 8, dtype=torch.float64, generator=generator).requires_grad_()
    return states, torch.tensor([2, 5, 5, 9]), table


def draw(sampler: Sampler, positives: Tensor) -> Negatives:
    found = sampler.draw(torch.zeros_like(positives), positives, torch.Generator().manual_seed(1))
    assert found.log_weight is not None
    return Negatives(found.items, found.log_weight.double())


def assert_same_values_and_gradients(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    """Every position's loss, and what reaches the inputs when positions weigh differently, one of them nothing."""
    torch.testing.assert_close(found, expected)
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
    gradients = [torch.autograd.grad((values * weights).sum(), inputs) for values in (found, expected)]
    torch.testing.assert_close(*gradients)


def binary(states: Tensor, positives: Tensor, negatives: Tensor, table: Tensor, power: float) -> Tensor:
    """-log σ(s⁺ - c)^power - Σ_k log(1 - σ(s_k - c)) with c = log(K / power), position by position."""
    values, prior = [], math.log(negatives.shape[1] / power)
    for p in range(len(states)):
        value = -torch.log(torch.sigmoid(states[p] @ table[positives[p]] - prior) ** power)
        for k in negatives[p]:
            value = value - torch.log(1 - torch.sigmoid(states[p] @ table[k] - prior))
        values.append(value)
    return torch.stack(values)


def softmax(states: Tensor, positives: Tensor, shared: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """-log( e^{s⁺} / (e^{s⁺} + Σ_{k ≠ positive} w_k e^{s_k}) ), position by position."""
    values = []
    for p in range(len(states)):
        own = torch.exp(states[p] @ table[positives[p]])
        others = [
            w * torch.exp(states[p] @ table[k]) for k, w in zip(shared, weights, strict=True) if k != positives[p]
        ]
        values.append(-torch.log(own / (own + torch.stack(others).sum())))
    return torch.stack(values)


@pytest.mark.parametrize("own", [OWN, OWN[:, :1]], ids=["several", "one"])
def test_bce_is_equation_7(own: Tensor) -> None:
    states, positives, table = world()
    found = bce(states, positives, Negatives(own), table)
    assert_same_values_and_gradients(found, binary(states, positives, own, table, 1.0), states, table)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_is_gsasrecs(calibration: float) -> None:
    states, positives, table = world()
    alpha = 3 / (ITEMS - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    found = gbce(states, positives, Negatives(OWN), table, calibration=calibration, others=ITEMS - 1)
    assert_same_values_and_gradients(found, binary(states, positives, OWN, table, beta), states, table)


@pytest.mark.parametrize("calibration", [0.0, 0.75])
def test_many_negatives_do_not_push_a_new_models_scores_down(calibration: float) -> None:
    many = Negatives(torch.arange(1, ITEMS + 1).repeat(4, 1))
    table = torch.ones(ITEMS + 1, 8, dtype=torch.float64)
    states = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)  # every score is 0
    lost = gbce(states, torch.tensor([2, 5, 5, 9]), many, table, calibration=calibration, others=10 * ITEMS)
    (gradient,) = torch.autograd.grad(lost.sum(), states)
    torch.testing.assert_close(gradient, torch.zeros_like(states))


def test_gbce_without_calibration_is_bce() -> None:
    states, positives, table = world()
    found = gbce(states, positives, Negatives(OWN), table, calibration=0.0, others=ITEMS - 1)
    assert torch.equal(found, bce(states, positives, Negatives(OWN), table))


def test_gbce_with_more_draws_than_items_is_bce() -> None:
    states, positives, table = world()
    many = Negatives(OWN.repeat(1, 7))
    assert torch.equal(
        gbce(states, positives, many, table, calibration=1.0, others=ITEMS - 1),
        bce(states, positives, many, table),
    )


def test_sampled_softmax_leaves_the_positive_out_of_the_negatives() -> None:
    states, positives, table = world()
    found = sampled_softmax(states, positives, SHARED_NEGATIVES, table)
    assert_same_values_and_gradients(found, softmax(states, positives, SHARED, WEIGHTS, table), states, table)


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_sampled_softmax_is_the_same_in_stretches(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "FEWEST", positions)
    monkeypatch.setattr(partition, "IN_CACHE", 1)
    states, positives, table = world()
    found = sampled_softmax(states, positives, SHARED_NEGATIVES, table)
    assert_same_values_and_gradients(found, softmax(states, positives, SHARED, WEIGHTS, table), states, table)


def test_where_only_the_positive_was_drawn_there_is_nothing_to_lose() -> None:
    states, _, table = world()
    only = Negatives(torch.tensor([5]), torch.zeros(1, dtype=torch.float64))
    found = sampled_softmax(states, torch.tensor([5, 5, 5, 5]), only, table)
    assert torch.autograd.grad(found.sum(), states)[0].eq(0).all() and found.eq(0).all()


def full(states: Tensor, positives: Tensor, table: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(states @ table[1:].T, positives - 1, reduction="none")


def test_sampled_softmax_with_the_whole_catalogue_is_cross_entropy() -> None:
    states, positives, table = world()
    found = sampled_softmax(states, positives, draw(WholeCatalogue(ITEMS, CPU), positives), table)
    assert_same_values_and_gradients(found, full(states, positives, table), states, table)


@pytest.mark.parametrize("scores", [1, ITEMS, 3 * ITEMS, 4 * ITEMS], ids=["1", "one row", "three rows", "all"])
def test_cross_entropy_is_the_same_in_chunks(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "SCORES", scores)
    states, positives, table = world()
    found = cross_entropy(states, positives, SHARED_NEGATIVES, table)
    assert_same_values_and_gradients(found, full(states, positives, table), states, table)


def test_cross_entropy_in_chunks_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "SCORES", 2 * ITEMS)
    states, positives, table = world()
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cross_entropy(states, positives, SHARED_NEGATIVES, table)
    assert kept and not any(len(shape) == 2 and shape[1] == ITEMS for shape in kept)


def values_of(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    loss = make_loss(Recommender(loss=name), ITEMS)
    shared = name in {"sampled-softmax", "cross-entropy"}
    negatives = Negatives(torch.arange(1, 5), torch.full((4,), math.log(2.5))) if shared else Negatives(OWN)
    return lambda states, positives, table: loss(states, positives, negatives, table)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_one_finite_value_and_gradient_per_position(name: str) -> None:
    states, positives, table = world()
    scaled = (states.detach().float() * 1000).requires_grad_()  # scores far beyond where exp overflows
    found = values_of(name)(scaled, positives, table.detach().float())
    assert found.shape == (4,) and (found >= 0).all()
    (gradient,) = torch.autograd.grad(found.sum(), scaled)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()


SETTINGS = [
    *(Recommender(loss=loss) for loss in LOSSES),
    *(Recommender(negatives=8, negatives_from=source) for source in get_args(NegativesFrom)),
]


@pytest.mark.parametrize("chosen", SETTINGS, ids=lambda c: f"{c.loss}-{c.negatives_from}")
def test_the_seed_decides_every_loss(chosen: Recommender, ring: Histories) -> None:
    config = chosen.model_copy(update={"dimension": 8, "layers": 1, "max_length": 8, "dropout": 0.0})
    torch.manual_seed(0)
    model = make_model(config, 30)
    torch.nn.init.normal_(model.item_table.all())
    objective = Objective.of(config, [WeightedTerm(ring)], 30, CPU)
    rows = torch.arange(16)
    first, again, other = (objective(model, rows, seed).item() for seed in (1, 1, 2))
    assert first == again
    nothing_is_drawn = config.loss in {"cross-entropy", "sampled-softmax"} and config.negatives != 8
    assert (first == other) == nothing_is_drawn  # 30 items are fewer than the default number of shared negatives


def test_a_loss_that_ignores_where_negatives_come_from_refuses_the_setting() -> None:
    with pytest.raises(ValidationError, match="needs the loss sampled-softmax"):
        Recommender(loss="bce", negatives_from="popularity")


@pytest.mark.parametrize("source", get_args(NegativesFrom))
def test_a_catalogue_smaller_than_the_sample_is_taken_whole(source: NegativesFrom) -> None:
    config = Recommender(negatives=7, negatives_from=source)
    negatives = draw(make_sampler(config, Histories.of([0], [[1, 2]]), 7, CPU), torch.tensor([2]))
    assert negatives.items.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert negatives.log_weight is not None and not negatives.log_weight.any()


@pytest.mark.parametrize("source", get_args(NegativesFrom))
def test_the_correction_makes_the_partition_function_unbiased(source: NegativesFrom) -> None:
    """Over many batches whose positives follow the training targets; item 10 is never one of them."""
    states, _, table = world()
    random = np.random.default_rng(0)
    histories = Histories.of(range(60), [1 + np.minimum(random.geometric(0.3, 5), 9) % 9 for _ in range(60)])
    targets = np.concatenate([row[1:] for row in histories])
    sampler = make_sampler(Recommender(negatives=6, negatives_from=source), histories, ITEMS, CPU)
    generator = torch.Generator().manual_seed(3)
    exact = torch.exp(states @ table[1:].T).sum(1)
    batches = 4000
    total = torch.zeros(4, dtype=torch.float64)
    for _ in range(batches):
        positives = torch.from_numpy(random.choice(targets, 7).astype(np.int64))
        negatives = sampler.draw(torch.zeros(7, dtype=torch.long), positives, generator)
        assert negatives.log_weight is not None
        total += torch.exp(states.detach() @ table.detach()[negatives.items].T + negatives.log_weight).sum(1)
    torch.testing.assert_close(total / batches, exact.detach(), rtol=0.1, atol=0)
