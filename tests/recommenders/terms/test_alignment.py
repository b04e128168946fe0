"""RLMRec's alignments: items are told by their texts, and texts by what the model makes of masked items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from teaching_world import CONFIG, CPU, ITEMS, USERS, VECTORS, everybody

from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.parts import make_parts
from llmser_tasks.recommenders.terms import make_term, text_contrast, text_reconstruction

__all__ = ["everybody"]

TEXTS = VECTORS.copy()
TEXTS[[6, 10, 13]] = 0  # items without a text
TAU = 0.3
CONTRAST: dict[str, Any] = {"item_vectors": TEXTS, "alignment_temperature": np.array(TAU, np.float32)}
MASKED = CONTRAST | {"alignment_masked": np.array(0.4, np.float32)}
GIVEN = {text_contrast.NAME: CONTRAST, text_reconstruction.NAME: MASKED}


def model_of(name: str, backbone: str = "sasrec", item_table: str = "ids") -> Model:
    torch.manual_seed(1)
    model = make_model(CONFIG.model_copy(update={"backbone": backbone}), ITEMS, item_table, {"item_vectors": VECTORS})
    model.parts.update(make_parts([name], model.item_table.width, GIVEN[name]))
    return model.eval()


def batch_of(model: Model, name: str, wanted: Sequence[bool] = (True,) * 5, seed: int = 1) -> Any:
    term = make_term(WeightedTerm(USERS, name=name), model.config, ITEMS, GIVEN[name], CPU)
    return term.batch(model, torch.arange(len(USERS)), torch.tensor(wanted), seed)


def map_of(model: Model, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two layers with max(x, x / 100) between them, by hand."""
    first, _, second = ([v.detach().numpy() for v in layer.parameters()] for layer in model.parts[name].layers)
    hidden = vectors @ first[0].T + first[1]
    mapped: NDArray[np.float32] = np.maximum(hidden, hidden / 100) @ second[0].T + second[1]
    return mapped


def info_nce(vectors: NDArray[Any], texts: NDArray[Any], own: Sequence[int]) -> list[float]:
    """By hand."""
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, texts)]
    scores = np.exp(unit[0] @ unit[1].T / TAU)
    return [-float(np.log(row[at] / row.sum())) for row, at in zip(scores, own, strict=True)]


@pytest.mark.parametrize("item_table", ["ids", "dual-view"])
@pytest.mark.usefixtures("everybody")
def test_items_are_told_by_their_texts_among_those_of_the_batch(item_table: str) -> None:
    name = text_contrast.NAME
    model = model_of(name, item_table=item_table)
    loss = losses_of(model, [batch_of(model, name)], len(USERS))[0].detach()
    items = [4, 5, 7, 8, 9, 11, 12, 14]  # those with a text
    each = info_nce(model.table[items].detach().numpy(), map_of(model, name, TEXTS[items]), range(len(items)))
    of = dict(zip(items, each, strict=True))
    for user, history in enumerate(USERS):
        assert float(loss[user]) == pytest.approx(sum(of.get(int(item), 0.0) for item in history), rel=1e-4)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec", "esasrec"])
@pytest.mark.usefixtures("everybody")
def test_texts_are_told_by_what_the_model_makes_of_masked_items(backbone: str) -> None:
    name = text_reconstruction.NAME
    model = model_of(name, backbone)
    seen = set()
    for seed in range(8):
        batch = batch_of(model, name, seed=seed)
        loss = losses_of(model, [batch], len(USERS))[0].detach()
        assert batch.owner.tolist() == [1, 2, 4], "one item says nothing of another"
        hidden, states = [], []
        for row, user in enumerate(batch.owner.tolist()):
            shown, history = batch.tokens[row, : len(USERS[user])].tolist(), USERS[user].tolist()
            assert shown[0] == history[0] and 0 in shown, "never the first one, and one at least"
            places = [at for at, item in enumerate(shown) if not item]
            assert [item for item in shown if item] == [x for at, x in enumerate(history) if at not in places]
            of_row, layout = model.states(batch.tokens[row : row + 1], batch.lengths[row : row + 1])
            hidden += [(user, history[at]) for at in places]
            states += [of_row[int(layout.start[0]) + at].detach().numpy() for at in places]
        seen |= set(hidden)
        items = sorted({item for _, item in hidden})
        each = info_nce(map_of(model, name, np.array(states)), TEXTS[items], [items.index(item) for _, item in hidden])
        for user in (1, 2, 4):
            own = sum(one for one, (whose, _) in zip(each, hidden, strict=True) if whose == user)
            assert float(loss[user]) == pytest.approx(own, rel=1e-3)
    assert {item for _, item in seen} == {7, 9, 12, 14}, "those with a text that are not the first"


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.usefixtures("everybody")
def test_a_users_loss_does_not_depend_on_who_else_is_wanted(name: str) -> None:
    model = model_of(name)
    everyone = losses_of(model, [batch_of(model, name)], 5)[0]
    some = losses_of(model, [batch_of(model, name, [True, False, True, False, True])], 5)[0]
    torch.testing.assert_close(some, everyone * torch.tensor([1, 0, 1, 0, 1]))
    assert not losses_of(model, [batch_of(model, name, [False] * 5)], 5)[0].any()


@torch.no_grad()
def test_some_users_of_a_batch_stand_for_all() -> None:
    name = text_reconstruction.NAME
    model = model_of(name)
    stood = torch.stack([torch.bincount(batch_of(model, name, seed=seed).owner, minlength=5) for seed in range(300)])
    assert stood.float().mean(0)[[1, 2, 4]].tolist() == pytest.approx([0.25] * 3, abs=0.09)
    name = text_contrast.NAME
    model = model_of(name)
    stood = torch.stack([torch.bincount(batch_of(model, name, seed=seed).user, minlength=5) > 0 for seed in range(300)])
    assert stood.float().mean(0)[[0, 1, 2, 4]].tolist() == pytest.approx([0.25] * 4, abs=0.09)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("loss", ["sampled-softmax", "cross-entropy", "bce", "gbce"])
@pytest.mark.usefixtures("everybody")
def test_with_every_loss_gradients_are_finite_and_padding_is_never_trained(name: str, loss: str) -> None:
    config = CONFIG.model_copy(update={"loss": loss, "negatives": None if loss == "cross-entropy" else 4})
    model = model_of(name).train()
    terms = [WeightedTerm(USERS), WeightedTerm(USERS, np.ones(5, np.float32), name=name)]
    objective = Objective.of(config, terms, ITEMS, CPU, GIVEN[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.autograd.backward(objective(model, torch.arange(5), 1))
    gradients = [parameter.grad.to_dense() for parameter in model.parameters() if parameter.grad is not None]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    Adam(model.parameters(), 0.1).step()
    after = model.state_dict()
    assert not after["item_table.ids.weight"][0].any()
    assert not torch.equal(after[f"parts.{name}.layers.0.weight"], before[f"parts.{name}.layers.0.weight"])


@pytest.mark.usefixtures("everybody")
def test_users_with_one_item_are_aligned_too_where_no_sequence_is_shown() -> None:
    model = model_of(text_contrast.NAME)
    terms = [WeightedTerm(USERS), WeightedTerm(USERS, name=text_contrast.NAME)]
    objective = Objective.of(CONFIG, terms, ITEMS, CPU, CONTRAST)
    assert objective.rows.tolist() == [0, 1, 2, 4], "the third has one item, and it has no text"
    alone = objective(model, torch.tensor([0]), 1)
    assert float(alone.detach()) == pytest.approx(0.0, abs=1e-6), "one text among one is told for sure"
    alone.backward()


@pytest.mark.parametrize("name", GIVEN)
def test_texts_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"needs a row of the feature item_vectors for padding and each of 30 items"):
        make_term(WeightedTerm(USERS, name=name), CONFIG, ITEMS, GIVEN[name] | {"item_vectors": TEXTS[1:]}, CPU)
