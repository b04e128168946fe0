"""The item branch of MELT: head items teach how to make a vector of states, and tail items get theirs in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from teaching_world import CONFIG, CPU, VECTORS, everybody

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Watch, WeightedTerm, load, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.early_stopping import Seen, ndcg_at_10
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.parts import make_parts
from llmser_tasks.recommenders.terms import make_term, tail_users
from llmser_tasks.recommenders.terms.tail_items import NAME, TailItems
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.histories import Histories

__all__ = ["everybody"]

ITEMS = 10  # 1 and 2 are head items
USERS = Histories.of(range(7), [[1, 2, 3], [4, 1, 2], [3, 2, 1, 5], [1], [6, 7, 1, 2, 5], [8], [2, 1, *([9, 10] * 5)]])
FEATURES = {"curriculum_epochs": np.array(0), "tail_length": np.array(2)}


def model_of(
    backbone: str = "sasrec", item_table: str = "ids", parts: tuple[str, ...] = (NAME, tail_users.NAME)
) -> Model:
    torch.manual_seed(1)
    config = CONFIG.model_copy(update={"backbone": backbone})
    model = make_model(config, ITEMS, item_table, {"item_vectors": VECTORS[: ITEMS + 1]})
    model.parts.update(make_parts(parts, model.item_table.width, FEATURES))
    if tail_users.NAME in parts:
        torch.nn.init.normal_(model.parts[tail_users.NAME].map.weight, std=0.3)
    return model.eval()


def term_of(model: Model, features: dict[str, Any] = FEATURES, users: Histories = USERS) -> TailItems:
    term = make_term(WeightedTerm(users, name=NAME), model.config, ITEMS, features, CPU)
    assert isinstance(term, TailItems)
    return term


def before(item: int, users: Histories = USERS, most: int = CONFIG.max_length) -> list[list[int]]:
    """What came before it, wherever something did."""
    rows = [history.tolist() for history in users]
    return [row[:at][-most:] for row in rows for at in range(1, len(row)) if row[at] == item]


def made(model: Model, contexts: list[list[int]]) -> NDArray[np.float32]:
    """What the map makes of these, worked out by hand."""
    states = states_of(model, Histories.of(range(len(contexts)), contexts)).numpy()
    weight, bias = (value.detach().numpy() for value in (model.parts[NAME].map.weight, model.parts[NAME].map.bias))
    vector: NDArray[np.float32] = weight @ states.mean(0) + bias
    return vector


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
def test_tail_items_get_what_the_map_makes_of_the_states_before_them(backbone: str) -> None:
    model = model_of(backbone)
    was = model.table.detach().numpy().copy()
    states = {item: made(model, before(item)) for item in range(1, ITEMS + 1) if before(item)}
    term = term_of(model)
    assert term.taught.tolist() == [1, 2] and term.made.tolist() == [3, 5, 7, 9, 10]
    term.complete(model)
    now = model.table.detach().numpy()
    for item in range(ITEMS + 1):
        expected = states[item] if item in (3, 5, 7, 9, 10) else was[item]
        np.testing.assert_allclose(now[item], expected, atol=1e-5, err_msg=str(item))


@pytest.mark.parametrize("item_table", ["dual-view", "alphafuse", "text-start", "summed"])
def test_every_item_table_can_be_completed_and_the_one_in_training_stays(item_table: str) -> None:
    model = model_of(item_table=item_table)
    was = model.table.detach().clone()
    objective = Objective.of(CONFIG, [WeightedTerm(USERS), WeightedTerm(USERS, name=NAME)], ITEMS, CPU, FEATURES_OF_ONE)
    done = objective.completed(model, trained=True)
    assert torch.equal(model.table, was)
    moved = (done.table - was).abs().amax(1) > 1e-6
    assert moved.nonzero()[:, 0].tolist() == [3, 5, 7, 9, 10]
    torch.testing.assert_close(objective.completed(model, trained=False).table, was)


FEATURES_OF_ONE = {"curriculum_epochs": np.array(0)}


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.usefixtures("everybody")
def test_a_head_items_vector_is_made_of_states_before_it(backbone: str) -> None:
    model = model_of(backbone)
    term = term_of(model, FEATURES | {"curriculum_epochs": np.array(4)})
    term.begin_epoch(model, epoch=2)
    counts = {item: int((USERS.items == item).sum()) for item in (1, 2)}
    rows, seen = torch.arange(len(USERS)), set()
    for seed in range(6):
        batch = term.batch(model, rows, torch.ones_like(rows, dtype=torch.bool), seed)
        losses = losses_of(model, [batch], len(USERS))[0]
        own = [
            batch.tokens[
                row, : batch.shown[row]
            ].tolist()  # as the causal models are shown it; BERT4Rec sees a mask more
            for row in range(len(batch.owner))
        ]
        for at, (item, user) in enumerate(zip(batch.items.tolist(), batch.users.tolist(), strict=True)):
            contexts = [own[row] for row in torch.nonzero(batch.of_item == at)[:, 0].tolist()]
            assert all(context in before(item) for context in contexts)
            seen.add((item, len(contexts)))
            spread = max(1, max(counts.values()) - min(counts.values()))
            omega = abs(np.sin(np.pi / 2 * (1 / 4 + (counts[item] - min(counts.values())) / spread)))
            expected = omega * ((made(model, contexts) - model.table[item].detach().numpy()) ** 2).sum()
            assert float(losses[user].detach()) == pytest.approx(float(expected), rel=1e-3)
    assert {item for item, _ in seen} == {1, 2} and len({many for _, many in seen}) > 2
    assert max(many for _, many in seen) <= 5, "no more than the commonest tail item has"


@pytest.mark.usefixtures("everybody")
def test_head_items_do_not_move_towards_what_is_made() -> None:
    model = model_of().train()
    term = term_of(model)
    rows = torch.arange(len(USERS))
    batch = term.batch(model, rows, torch.ones_like(rows, dtype=torch.bool), 1)
    losses_of(model, [batch], len(USERS))[0].sum().backward()
    gradients = [p.grad.to_dense() for p in model.parameters() if p.grad is not None]
    assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    shown = set(batch.tokens.flatten().tolist())
    moved = set(model.item_table.per_item()["ids.weight"].grad.coalesce().indices()[0].tolist())
    rows_moved = {row for row in moved if model.item_table.per_item()["ids.weight"].grad.to_dense()[row].any()}
    assert rows_moved <= shown


def test_what_is_judged_is_what_is_kept_and_training_goes_on_from_what_it_was(
    tmp_path: Path, ring: Histories, watch: Watch
) -> None:
    config = CONFIG.model_copy(update={"epochs": 3, "patience": 3})
    terms = [WeightedTerm(ring), WeightedTerm(ring, np.full(len(ring), 0.3, np.float32), name=NAME)]
    summary = train(config, terms, 30, 1, tmp_path, watch=watch, features=FEATURES_OF_ONE, device="cpu")
    kept = load(tmp_path, "cpu")
    assert ndcg_at_10(kept, watch, Seen.by(kept, watch)) == pytest.approx(summary.ndcg)
    assert not len(kept.parts), "the map is in the vectors"


def test_a_world_without_contexts_has_nothing_to_teach() -> None:
    alone = Histories.of(range(3), [[1], [2], [3]])
    term = term_of(model_of(), users=alone)
    assert not term.teaches().any() and not len(term.made)
    model = model_of()
    was = model.table.detach().clone()
    term.complete(model)
    assert torch.equal(model.table, was)


def test_an_item_with_many_histories_before_it_is_made_of_some_spread_over_all() -> None:
    many = Histories.of(range(40), [[1 + row % 3, 2, 1, 10] if row < 20 else [1, 2] for row in range(40)])
    config: Recommender = CONFIG
    term = make_term(WeightedTerm(many, name=NAME), config, ITEMS, FEATURES_OF_ONE, CPU)
    assert isinstance(term, TailItems)
    assert term.made.tolist() == [10] and len(term.contexts) == 10 and term.most == 10
    assert [row.tolist() for row in term.contexts] == [many[2 * row][:-1].tolist() for row in range(10)]
