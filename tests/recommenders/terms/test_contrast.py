"""Contrasts: whom a user is told from, what the views of a history are, and that trainings can be relied upon."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teaching_world import CONFIG, CPU, ITEMS, NEAR, USERS, VECTORS, everybody, log_of

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import TERMS
from llmser_tasks.recommenders import Watch, WeightedTerm, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.parallel import VARIABLE
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.terms import make_term, students
from llmser_tasks.recommenders.terms.term import UserTerm
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.histories import MARK, Histories

__all__ = ["everybody"]

NEIGHBOURS, VIEWS = "neighbour-contrast", "view-contrast"
BOTH = (NEIGHBOURS, VIEWS)
LEARNING = [0, 1, 2, 4]  # who has neighbours
TEMPERATURE = 0.4
COSINES = np.array([[0.9, 0.5], [0.8, 0], [0.7, 0.6], [0, 0], [0.9, 0.1]], np.float32)
ITEM_NEAR = np.zeros((ITEMS + 1, 3), np.int32)  # one neighbour of most, three of 5 and of 9, none of 12 … 14
ITEM_NEAR[1:12, 0] = ITEM_NEAR[15:, 0] = 21
ITEM_NEAR[5] = ITEM_NEAR[9] = [22, 23, 24]
EVERYBODY = torch.ones(len(USERS), dtype=torch.bool)


def features(name: str, **other: Any) -> dict[str, Any]:
    """What the term takes."""
    given = {
        "user_neighbours": NEAR,
        "user_neighbour_cosines": COSINES,
        "item_neighbours": ITEM_NEAR,
        "contrast_replaced": np.array(0.2, np.float32),
        "contrast_temperature": np.array(TEMPERATURE, np.float32),
    } | other
    return {feature: given[feature] for feature in TERMS[name].features}


def model_of(backbone: str = "sasrec", item_table: str = "ids") -> Model:
    torch.manual_seed(1)
    config = CONFIG.model_copy(update={"backbone": backbone, "dropout": 0.5})
    return make_model(config, ITEMS, item_table, {"item_vectors": VECTORS} if item_table != "ids" else {})


def term_of(name: str, model: Model, histories: Histories = USERS, **other: Any) -> UserTerm:
    term = make_term(WeightedTerm(histories, name=name), model.config, ITEMS, features(name, **other), CPU)
    term.begin_epoch(model)
    return term


def losses(name: str, model: Model, wanted: torch.Tensor = EVERYBODY, seed: int = 1, **other: Any) -> torch.Tensor:
    """(U,) of all users."""
    batch = term_of(name, model, **other).batch(model, torch.arange(len(USERS)), wanted, seed)
    return losses_of(model, [batch], len(USERS))[0]


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


# Neighbours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("item_table", ["ids", "dual-view"])
@pytest.mark.usefixtures("everybody")
def test_a_user_is_told_from_others_by_the_teachers(backbone: str, item_table: str) -> None:
    model = model_of(backbone, item_table).eval()
    states = states_of(model, USERS)
    teachers = {}
    for user in LEARNING:
        known = NEAR[user] >= 0
        counts = np.exp(COSINES[user][known] / TEMPERATURE)
        taught = zip(NEAR[user][known], counts / counts.sum(), strict=True)
        teachers[user] = torch.stack([states[near] * float(share) for near, share in taught]).sum(0)
    loss = losses(NEIGHBOURS, model).detach()
    for user in LEARNING:
        scores = {other: np.exp(cosine(states[user], teachers[other]) / TEMPERATURE) for other in LEARNING}
        assert loss[user] == pytest.approx(-np.log(scores[user] / sum(scores.values())), rel=1e-4)
    assert loss[3] == 0, "nobody teaches user 3"


@torch.no_grad()
def test_whom_a_student_is_told_from_does_not_depend_on_who_else_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().eval()
    drawn = torch.stack([losses(NEIGHBOURS, model, seed=seed) for seed in range(100)])
    monkeypatch.setattr(students, "STUDENTS", 1.0)
    torch.testing.assert_close(drawn, losses(NEIGHBOURS, model) * 4 * (drawn > 0), rtol=1e-4, atol=1e-6)
    assert 0 < (drawn > 0).float().mean() < 0.4


@pytest.mark.usefixtures("everybody")
def test_teachers_learn_nothing() -> None:
    model = model_of().train()
    losses(NEIGHBOURS, model)[0].backward()
    rows = next(iter(model.item_table.per_item().values())).grad
    assert rows is not None
    values = rows.to_dense()
    assert values[4].any(), "the one item of user 0"
    assert not values[5:15].any(), "what the others had"


# Views ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("replaced", [0.0, 1.0])
@pytest.mark.usefixtures("everybody")
def test_two_views_of_a_history_are_told_from_those_of_others(backbone: str, replaced: float) -> None:
    model = model_of(backbone).eval()
    near = ITEM_NEAR.copy()
    near[:, 1:] = 0  # so that there is nothing to draw
    seen = [[near[item, 0] if replaced and near[item, 0] else item for item in items] for items in USERS]
    states = states_of(model, Histories.of(USERS.users, seen))
    given = {"item_neighbours": near, "contrast_replaced": np.array(replaced, np.float32)}
    loss = losses(VIEWS, model, **given).detach()
    for user in range(len(USERS)):
        others = [other for other in range(len(USERS)) if other != user]
        of_others = sum(2 * np.exp(cosine(states[user], states[other]) / TEMPERATURE) for other in others)
        own = np.exp(1 / TEMPERATURE)
        assert loss[user] == pytest.approx(-np.log(own / (own + of_others)), rel=1e-3)


@pytest.mark.usefixtures("everybody")
def test_items_are_replaced_by_neighbours_of_theirs_and_those_without_stay() -> None:
    model = model_of()
    term = term_of(VIEWS, model)
    rows = torch.arange(len(USERS))
    known = {item: set(ITEM_NEAR[item][ITEM_NEAR[item] > 0].tolist()) for item in range(ITEMS + 1)}
    shown, count = dict[int, set[int]](), 0
    for seed in range(300):
        batch = term.batch(model, rows, EVERYBODY, seed)
        assert batch.lengths.tolist() == 2 * USERS.lengths.tolist()
        for row, length, items in zip(batch.tokens.tolist(), batch.lengths.tolist(), [*USERS, *USERS], strict=True):
            assert not any(row[length:]), "padding stays padding"
            for item, new in zip(items.tolist(), row, strict=False):
                shown.setdefault(item, set()).add(new)
                count += new != item
    assert shown == {item: {item} | known[item] for item in USERS.items.tolist()}
    replaceable = sum(bool(known[item]) for item in USERS.items.tolist())
    assert count / (600 * replaceable) == pytest.approx(0.2, abs=0.02)


@pytest.mark.usefixtures("everybody")
def test_the_two_views_are_drawn_apart() -> None:
    model = model_of()
    batch = term_of(VIEWS, model).batch(model, torch.arange(len(USERS)), EVERYBODY, 1)
    assert not torch.equal(*batch.tokens.view(2, len(USERS), -1))


@pytest.mark.usefixtures("everybody")
def test_a_marked_items_neighbour_is_marked_too() -> None:
    model = model_of()
    model.take_marks()
    marked = USERS.select(np.array([0])).marked().then(USERS)
    histories = Histories.of(range(5), [marked[0], *(USERS[row] for row in range(1, 5))])
    term = term_of(VIEWS, model, histories, contrast_replaced=np.array(1.0, np.float32))
    batch = term.batch(model, torch.arange(len(USERS)), EVERYBODY, 1)
    assert batch.tokens[0, 0] == 21 + MARK
    assert batch.tokens[2].tolist()[:2] != [8, 9] and int(batch.tokens[1:5].max()) <= ITEMS


# Both ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("everybody")
def test_a_users_loss_does_not_depend_on_who_is_wanted(name: str) -> None:
    model = model_of().eval()
    whole = losses(name, model).detach()
    for user in range(len(USERS)):
        alone = losses(name, model, torch.arange(len(USERS)) == user).detach()
        assert alone[user] == pytest.approx(float(whole[user]), rel=1e-5)
        assert not alone[torch.arange(len(USERS)) != user].any()
    nobody = term_of(name, model).batch(model, torch.arange(len(USERS)), ~EVERYBODY, 1)
    assert not len(nobody.owner)
    assert not losses_of(model, [nobody], len(USERS))[0].any()


@pytest.mark.parametrize("name", BOTH)
@torch.no_grad()
def test_a_seed_decides_all_that_is_drawn(name: str) -> None:
    model = model_of().eval()
    first = [losses(name, model, seed=seed) for seed in range(20)]
    again = [losses(name, model, seed=seed) for seed in range(20)]
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert len({tuple(loss.tolist()) for loss in first}) > 1


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.usefixtures("everybody")
def test_a_user_with_one_item_learns(name: str, backbone: str) -> None:
    model = model_of(backbone).train()
    losses(name, model, seed=4)[0].backward()
    rows = next(iter(model.item_table.per_item().values())).grad
    assert rows is not None
    assert rows.to_dense()[4].any(), "the one item of user 0"


@pytest.mark.parametrize(("name", "who"), [(NEIGHBOURS, [0, 1, 2, 4]), (VIEWS, [0, 1, 2, 3, 4])])
@pytest.mark.usefixtures("everybody")
def test_a_training_takes_in_whoever_a_contrast_teaches(name: str, who: list[int]) -> None:
    terms = [WeightedTerm(USERS), WeightedTerm(USERS, np.full(5, 0.1, np.float32), name=name)]
    objective = Objective.of(CONFIG, terms, ITEMS, CPU, features(name))
    assert objective.rows.tolist() == who
    model = model_of().eval()
    objective.begin_epoch(model)
    rows = torch.arange(5)
    only_items = Objective.of(CONFIG, terms[:1], ITEMS, CPU)(model, rows, 1).item()
    more = 0.1 * losses(name, model).sum().item() / 5
    assert objective(model, rows, 1).item() - only_items == pytest.approx(more, rel=1e-3)


@pytest.mark.parametrize("name", BOTH)
def test_a_batch_without_students_has_next_items_alone(name: str) -> None:
    model = model_of().eval()
    terms = [WeightedTerm(USERS), WeightedTerm(USERS, name=name)]
    objective = Objective.of(CONFIG, terms, ITEMS, CPU, features(name))
    objective.begin_epoch(model)
    only_items = Objective.of(CONFIG, terms[:1], ITEMS, CPU)
    seed = next(seed for seed in range(20) if torch.rand(1, generator=torch.Generator().manual_seed(seed)) > 0.5)
    loss = objective(model, torch.tensor([4]), seed)
    torch.autograd.backward(loss)
    assert loss.item() == only_items(model, torch.tensor([4]), seed).item()


@pytest.mark.parametrize(
    ("name", "given", "what"),
    [
        (NEIGHBOURS, {"user_neighbours": NEAR[:4]}, "a row of the feature user_neighbours for each of 5 users"),
        (NEIGHBOURS, {"user_neighbour_cosines": COSINES[:, :1]}, "a cosine for each of"),
        (VIEWS, {"item_neighbours": ITEM_NEAR[1:]}, "a row of the feature item_neighbours for padding and each of 30"),
        (VIEWS, {"item_neighbours": ITEM_NEAR + 10}, "with ids of items or 0"),
        (VIEWS, {"item_neighbours": ITEM_NEAR - 1}, "with ids of items or 0"),
    ],
)
def test_neighbours_that_do_not_fit_are_refused(name: str, given: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        term_of(name, model_of(), **given)


# Whole trainings -----------------------------------------------------------------------------------------------------


def fit(folder: Path, ring: Histories, watch: Watch, config: Recommender = CONFIG, **given: Any) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(2)
    near = random.integers(-1, len(ring), (len(ring), 3)).astype(np.int32)
    item_near = random.integers(1, ITEMS + 1, (ITEMS + 1, 3)).astype(np.int32)
    about = {"user_neighbours": near, "user_neighbour_cosines": random.random(near.shape, np.float32)}
    about |= {"item_neighbours": item_near}
    weight = np.full(len(ring), 0.5, np.float32)
    terms = [WeightedTerm(ring), *(WeightedTerm(ring, weight, name=name) for name in BOTH)]
    together = features(NEIGHBOURS, **about) | features(VIEWS, **about)
    train(config, terms, ITEMS, 1, folder, watch=watch, features=together, device="cpu", **given)
    return folder


def test_it_goes_on_after_a_kill_with_the_same_bytes(tmp_path: Path, ring: Histories, watch: Watch) -> None:
    def interrupt(done: int, *_: object, **__: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        fit(tmp_path / "killed", ring, watch, progress=interrupt)
    assert len(log_of(tmp_path / "killed")) == 2
    killed, whole = fit(tmp_path / "killed", ring, watch), fit(tmp_path / "whole", ring, watch)
    assert len(log_of(killed)) == 4
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_two_processes_take_the_steps_of_one(
    tmp_path: Path, ring: Histories, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = CONFIG.model_copy(update={"dropout": 0.0})
    alone = fit(tmp_path / "alone", ring, watch, still)
    monkeypatch.setenv(VARIABLE, "2")
    both = fit(tmp_path / "both", ring, watch, still)
    for one, other in zip(log_of(alone), log_of(both), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4) and one["ndcg@10"] == other["ndcg@10"]
