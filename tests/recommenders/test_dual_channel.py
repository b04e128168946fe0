"""Dual-Channel Training (Eq. 9): on one batch without dropout, what α does to the loss and to its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.terms.term import UserTerm
from llmser_tasks.sequences.histories import Histories

ITEMS = 40
USERS = 12
CPU = torch.device("cpu")
ROWS = torch.arange(USERS)
SEED = 5


@pytest.fixture(params=["sampled-softmax", "bce"])
def config(request: pytest.FixtureRequest, small: Recommender) -> Recommender:
    loss: str = request.param
    return small.model_copy(update={"loss": loss, "negatives": 3 if loss == "bce" else 16, "dropout": 0.0})


@pytest.fixture
def plain() -> Histories:
    random = np.random.default_rng(0)
    return Histories.of(range(USERS), [random.integers(1, ITEMS + 1, 2 + i % 6) for i in range(USERS)])


@pytest.fixture
def enhanced(plain: Histories) -> Histories:
    random = np.random.default_rng(1)
    return plain.after(Histories.of(range(USERS), [random.integers(1, ITEMS + 1, 1 + i % 4) for i in range(USERS)]))


def fresh(config: Recommender) -> Model:
    torch.manual_seed(0)
    return make_model(config, ITEMS)


def loss_and_gradient(
    config: Recommender, plain: Histories, enhanced: Histories | None = None, alpha: list[float] | None = None
) -> tuple[float, list[Tensor]]:
    model = fresh(config)
    terms = [WeightedTerm(plain)]
    if enhanced is not None and alpha is not None:
        terms = dual_channel(plain, enhanced, np.array(alpha))
    loss = Objective.of(config, terms, ITEMS, CPU)(model, ROWS, SEED)
    torch.autograd.backward(loss)
    return loss.item(), gradients(model)


def losses(term: UserTerm, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Tensor:
    """(B,) one term's losses alone."""
    return losses_of(model, [term.batch(model, rows, wanted, seed)], len(rows))[0]


def gradients(model: Model) -> list[Tensor]:
    return [p.grad.to_dense() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]


def test_alpha_0_is_the_base(config: Recommender, plain: Histories, enhanced: Histories) -> None:
    base, gradient = loss_and_gradient(config, plain)
    weighted, other = loss_and_gradient(config, plain, enhanced, [0.0] * USERS)
    assert weighted == base
    assert all(torch.equal(a, b) for a, b in zip(gradient, other, strict=True))


def test_alpha_1_is_the_base_on_enhanced_sequences(config: Recommender, plain: Histories, enhanced: Histories) -> None:
    base, gradient = loss_and_gradient(config, enhanced)
    weighted, other = loss_and_gradient(config, plain, enhanced, [1.0] * USERS)
    assert weighted == base
    assert all(torch.equal(a, b) for a, b in zip(gradient, other, strict=True))
    assert loss_and_gradient(config, plain)[0] != base


def test_context_cut_off_by_the_longest_length_does_not_spare_real_items(small: Recommender) -> None:
    """Of a long enhanced sequence only the newest items are seen; what is cut off was pseudo."""
    config = small.model_copy(update={"max_length": 4, "dropout": 0.0})
    real, pseudo = [1, 2, 3], [11, 12, 13, 14]
    plain = Histories.of([0], [real])
    model = make_model(config, ITEMS)
    wanted = torch.tensor([True])
    rows = torch.tensor([0])

    def loss(sequence: list[int], context: int) -> float:
        enhanced = Histories.of([0], [sequence])
        objective = Objective.of(config, dual_channel(plain, enhanced, np.ones(1), np.array([context])), ITEMS, CPU)
        return sum(losses(objective.terms[1], model.eval(), rows, wanted, seed).item() for seed in range(10))

    assert loss(pseudo + real, 4) == pytest.approx(loss((pseudo + real)[-5:], 2))
    assert loss(pseudo + real, 0) > loss(pseudo + real, 4)


@pytest.mark.parametrize("others", [0.0, 0.4, 1.0])
def test_raising_one_alpha_moves_that_users_share_alone(
    config: Recommender, plain: Histories, enhanced: Histories, others: float
) -> None:
    chosen = 7
    model = fresh(config)
    everyone = torch.ones(USERS, dtype=torch.bool)
    objective = Objective.of(config, dual_channel(plain, enhanced, np.full(USERS, others)), ITEMS, CPU)
    of_plain = losses(objective.terms[0], model, ROWS, everyone, SEED)
    of_enhanced = losses(objective.terms[1], model, ROWS, everyone, SEED)

    def total(alpha: float) -> float:
        weights = np.full(USERS, others)
        weights[chosen] = alpha
        return (
            Objective.of(config, dual_channel(plain, enhanced, weights), ITEMS, CPU)(model, ROWS, SEED).item() * USERS
        )

    share = (of_enhanced - of_plain)[chosen].item()
    assert abs(share) > 1e-3
    for low, high in ((0.0, 1.0), (0.0, 0.25), (0.25, 0.75), (0.5, 1.0)):
        assert total(high) - total(low) == pytest.approx((high - low) * share, abs=1e-4)


def test_a_users_loss_does_not_depend_on_who_else_is_computed(
    config: Recommender, plain: Histories, enhanced: Histories
) -> None:
    model = fresh(config)
    (term,) = Objective.of(config, [WeightedTerm(enhanced)], ITEMS, CPU).terms
    everyone = losses(term, model, ROWS, torch.ones(USERS, dtype=torch.bool), SEED)
    for wanted in (ROWS % 2 == 0, ROWS == 3, ROWS < 0):
        some = losses(term, model, ROWS, wanted, SEED)
        torch.testing.assert_close(some[wanted], everyone[wanted])
        assert not some[~wanted].any()


def test_one_alpha_changes_one_users_gradient(plain: Histories, enhanced: Histories) -> None:
    """No batch mean: with α = 1 for a single user the gradient is that user's alone plus the others' plain ones."""
    config = Recommender(dimension=16, max_length=12, dropout=0, negatives=16)
    alpha = [0.0] * USERS
    alpha[4] = 1.0
    model = fresh(config)
    _, mixed = loss_and_gradient(config, plain, enhanced, alpha)
    objective = Objective.of(config, dual_channel(plain, enhanced, np.array(alpha)), ITEMS, CPU)
    only = ROWS == 4
    expected = (
        losses(objective.terms[0], model, ROWS, ~only, SEED).sum()
        + losses(objective.terms[1], model, ROWS, only, SEED).sum()
    )
    torch.autograd.backward(expected / USERS)
    for one, other in zip(mixed, gradients(model), strict=True):
        torch.testing.assert_close(one, other)


def test_a_single_item_has_no_loss_until_it_is_enhanced(small: Recommender) -> None:
    plain = Histories.of([0, 1], [[3], [4, 5]])
    enhanced = Histories.of([0, 1], [[1, 2, 3], [4, 5]])
    model = make_model(small, ITEMS)
    everyone = torch.tensor([True, True])
    objective = Objective.of(small, dual_channel(plain, enhanced, np.array([1.0, 0.5])), ITEMS, CPU)
    assert objective.rows.tolist() == [0, 1]
    assert losses(objective.terms[0], model, torch.tensor([0, 1]), everyone, SEED)[0] == 0
    assert losses(objective.terms[1], model, torch.tensor([0, 1]), everyone, SEED)[0] > 0


@pytest.mark.parametrize(
    ("alpha", "users"), [([0.5], [0, 1]), ([0.5, 1.5], [0, 1]), ([0.5, float("nan")], [0, 1]), ([0.5, 0.5], [0, 2])]
)
def test_weights_and_sequences_that_do_not_fit_are_refused(alpha: list[float], users: list[int]) -> None:
    plain = Histories.of([0, 1], [[1, 2], [3, 4]])
    other = Histories.of(users, [[1, 2], [3, 4]])
    with pytest.raises(InputError, match="Dual-channel"):
        dual_channel(plain, other, np.array(alpha))


def test_histories_that_teach_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="two items"):
        Objective.of(Recommender(), [WeightedTerm(Histories.of([0, 1], [[1], []]))], ITEMS, CPU)
    with pytest.raises(InputError, match="catalogue"):
        Objective.of(Recommender(), [WeightedTerm(Histories.of([0], [[1, ITEMS + 1]]))], ITEMS, CPU)
