"""The user branch of MELT: what it learns is what tail users are served with, and nobody else notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teaching_world import CONFIG, CPU, ITEMS, USERS

from llmser_tasks.recommenders import Watch, WeightedTerm, load, top_k, train
from llmser_tasks.recommenders.load import make_model, modules_in
from llmser_tasks.recommenders.loop.checkpoints import describe, save_weights
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import losses_of
from llmser_tasks.recommenders.parts import make_parts
from llmser_tasks.recommenders.terms import make_term
from llmser_tasks.recommenders.terms.curriculum import curriculum
from llmser_tasks.recommenders.terms.tail_users import NAME, Shortened, TailUsers
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.histories import Histories

T = 2
FEATURES: dict[str, Any] = {"tail_length": np.array(T), "curriculum_epochs": np.array(10)}


def model_of(backbone: str = "sasrec", learned: float = 0.3, tail_length: int = T) -> Model:
    """A model whose branch has learned something."""
    torch.manual_seed(1)
    model = make_model(CONFIG.model_copy(update={"backbone": backbone}), ITEMS)
    model.parts.update(make_parts([NAME], 16, FEATURES | {"tail_length": np.array(tail_length)}))
    torch.nn.init.normal_(model.parts[NAME].map.weight, std=learned)
    torch.nn.init.normal_(model.parts[NAME].map.bias, std=learned)
    return model.eval()


def drawn(model: Model, seed: int = 1) -> Shortened:
    term = make_term(WeightedTerm(USERS, name=NAME), model.config, ITEMS, FEATURES, CPU)
    assert isinstance(term, TailUsers) and term.teaches().tolist() == [False, True, False, False, True]
    term.begin_epoch(model, epoch=4)
    rows = torch.arange(len(USERS))
    return term.batch(model, rows, torch.ones_like(rows, dtype=torch.bool), seed)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
def test_the_state_of_a_few_items_is_to_become_that_of_all(backbone: str) -> None:
    model, bare = model_of(backbone), model_of(backbone, tail_length=0)
    weight, bias = (value.detach().numpy() for value in (model.parts[NAME].map.weight, model.parts[NAME].map.bias))
    seen = set()
    for seed in range(12):
        batch = drawn(model, seed)
        loss = losses_of(model, [batch], len(USERS))[0]
        assert not loss[[0, 2, 3]].any(), "tail users teach nobody"
        for user, shown in zip(batch.owner.tolist(), batch.lengths.tolist(), strict=True):
            few = shown - (backbone == "bert4rec")  # whose mask follows
            seen.add((user, few))
            latest = Histories.of([0], [USERS[user][-few:]])
            u_l, u = (states_of(bare, of)[0].numpy() for of in (latest, USERS.select(np.array([user]))))
            omega = abs(np.sin(np.pi / 2 * (3 / 10 + (len(USERS[user]) - 3) / 1)))
            expected = omega * ((u_l + weight @ u_l + bias - u) ** 2).sum()
            assert float(loss[user].detach()) == pytest.approx(float(expected), rel=1e-3)
    assert seen == {(1, 1), (1, 2), (4, 1), (4, 2)}, "any number of items up to T"


def test_it_moves_the_map_and_what_few_items_say_but_not_what_is_learned_from() -> None:
    model = model_of().train()
    batch = drawn(model)
    losses_of(model, [batch], len(USERS))[0].sum().backward()
    assert not batch.full.requires_grad
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    dense = [gradient.to_dense() for gradient in gradients]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in dense)
    assert model.parts[NAME].map.weight.grad.any()
    rows = model.item_table.per_item()["ids.weight"].grad.coalesce().indices()[0].tolist()
    assert not {5, 11, 12} & set(rows), "older items are in what is learned alone"


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_users_with_few_items_are_served_with_it_and_others_to_the_bit_without(backbone: str, tmp_path: Path) -> None:
    model, bare = model_of(backbone), model_of(backbone, tail_length=0)
    with_it, without = states_of(model, USERS), states_of(bare, USERS)
    tail = torch.from_numpy(USERS.lengths <= T)
    assert torch.equal(with_it[~tail], without[~tail])
    torch.testing.assert_close(with_it[tail], model.parts[NAME](without[tail]).detach())
    assert not states_of(model, Histories.of([0], [[]])).any(), "nothing to go by, nothing preferred"
    save_weights(tmp_path, model)
    describe(tmp_path, model, {})
    again = load(tmp_path, "cpu")
    nobody = Histories.of([], [])
    for one, other in zip(top_k(again, USERS, 5, nobody), top_k(model, USERS, 5, nobody), strict=True):
        assert one.tobytes() == other.tobytes(), "and so are those whom the exported model serves"
    assert "llmser_tasks.recommenders.terms.tail_users" in modules_in(tmp_path)


def test_a_branch_that_has_learned_nothing_serves_everybody_as_before() -> None:
    part = make_parts([NAME], 16, FEATURES)[NAME]
    states = torch.randn(3, 16)
    assert torch.equal(part.served(states, torch.tensor([1, 2, 3])), states)


def test_another_training_begins_with_a_branch_of_its_own(tmp_path: Path) -> None:
    earlier = model_of()
    save_weights(tmp_path, earlier)
    describe(tmp_path, earlier, {})
    plain = make_model(CONFIG, ITEMS)
    begin_from(plain, tmp_path)
    assert torch.equal(plain.table, earlier.table) and not len(plain.parts)
    later = model_of(learned=0.0)
    begin_from(later, tmp_path)
    assert torch.equal(later.table, earlier.table) and not later.parts[NAME].map.weight.any()


def test_what_is_richest_counts_first_and_what_is_poorest_last() -> None:
    sizes = np.array([10, 20, 30])
    assert curriculum(sizes, 1, 100).tolist() == pytest.approx([0, np.sin(np.pi / 4), 1], abs=1e-6)
    assert curriculum(sizes, 51, 100).tolist() == pytest.approx([np.sin(np.pi / 4), 1, np.sin(np.pi * 3 / 4)], abs=1e-6)
    assert curriculum(sizes, 500, 100).tolist() == pytest.approx([1, np.sin(np.pi * 3 / 4), 0], abs=1e-6)
    assert curriculum(sizes, 1, 0).tolist() == [1, 1, 1]
    assert curriculum(np.array([7, 7]), 51, 100).tolist() == pytest.approx([np.sin(np.pi / 4)] * 2)
    assert not len(curriculum(np.zeros(0, np.int64), 1, 100))


def test_it_learns_on_a_ring_and_is_kept(tmp_path: Path, ring: Histories, watch: Watch) -> None:
    features = {"tail_length": np.array(4), "curriculum_epochs": np.array(0)}
    terms = [WeightedTerm(ring), WeightedTerm(ring, np.full(len(ring), 0.2, np.float32), name=NAME)]
    train(CONFIG, terms, ITEMS, 1, tmp_path, watch=watch, features=features, device="cpu")
    part = load(tmp_path, "cpu").parts[NAME]
    assert part.map.weight.any() and int(part.tail_length) == 4
