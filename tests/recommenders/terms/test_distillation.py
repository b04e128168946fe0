"""Self-distillation: who learns from whom, when teachers are asked, and that a training with it can be relied upon."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from teaching_world import CONFIG, CPU, ITEMS, NEAR, USERS, VECTORS, everybody, log_of

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders import Watch, WeightedTerm, load, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.recommenders.loop.parallel import VARIABLE
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.terms import make_term, students, teachers
from llmser_tasks.recommenders.terms.distillation import Distillation
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.histories import Histories

__all__ = ["everybody"]


def model_of(backbone: str = "sasrec", item_table: str = "dual-view") -> Model:
    torch.manual_seed(1)
    config = CONFIG.model_copy(update={"backbone": backbone, "dropout": 0.5})
    return make_model(config, ITEMS, item_table, {"item_vectors": VECTORS})


def losses(model: Model, near: NDArray[np.int32] = NEAR, seed: int = 1) -> torch.Tensor:
    """(U,) of all users."""
    weighted = WeightedTerm(USERS, name="distillation")
    term = make_term(weighted, model.config, ITEMS, {"user_neighbours": near}, CPU)
    term.begin_epoch(model)
    rows = torch.arange(len(USERS))
    batch = term.batch(model, rows, torch.ones_like(rows, dtype=torch.bool), seed)
    return losses_of(model, [batch], len(USERS))[0]


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("item_table", ["dual-view", "ids"])
@pytest.mark.usefixtures("everybody")
def test_a_state_is_drawn_to_the_mean_of_its_neighbours(backbone: str, item_table: str) -> None:
    model = model_of(backbone, item_table).eval()
    states = states_of(model, USERS)
    loss = losses(model).detach()
    for user, near in enumerate(NEAR):
        known = near[near >= 0]
        expected = (states[user] - states[known].mean(0)).square().mean() if len(known) else 0.0
        assert loss[user] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.usefixtures("everybody")
def test_teachers_have_no_dropout_and_the_model_is_left_as_it_was() -> None:
    model = model_of().train()
    near = NEAR.copy()
    near[:, 1] = -1
    term = make_term(WeightedTerm(USERS, name="distillation"), CONFIG, ITEMS, {"user_neighbours": near}, CPU)
    before = torch.get_rng_state()
    term.begin_epoch(model)
    assert torch.equal(torch.get_rng_state(), before) and model.training
    rows = torch.arange(len(USERS))
    batch: Any = term.batch(model, rows, torch.ones_like(rows, dtype=torch.bool), 1)
    torch.testing.assert_close(batch.taught, states_of(model, USERS)[near[[0, 1, 2, 4], 0]])


def test_teachers_that_were_judged_with_the_same_history_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().train()
    term = make_term(WeightedTerm(USERS, name="distillation"), CONFIG, ITEMS, {"user_neighbours": NEAR}, CPU)
    assert isinstance(term, Distillation)
    term.begin_epoch(model)
    alone = term.teachers.states
    judged = Histories.of([0, 1, 2, 4], [[4], [5, 6, 8], [8, 9], [11, 12, 13, 14]])
    seen = Seen.by(model, Watch(judged, np.ones(4, np.int32), judged))
    encoded: list[int] = []

    def recorded(model: Model, contexts: Histories) -> torch.Tensor:
        encoded.extend(contexts.users.tolist())
        return states_of(model, contexts)

    monkeypatch.setattr(teachers, "states_of", recorded)
    term.begin_epoch(model, seen=seen)
    assert encoded == [1, 3], "whose history is another, and who was not judged"
    torch.testing.assert_close(term.teachers.states, alone)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.usefixtures("everybody")
def test_a_user_with_one_item_learns_and_teachers_do_not(backbone: str) -> None:
    model = model_of(backbone).train()
    losses(model)[0].backward()
    rows = model.item_table.per_item()["ids.weight"].grad
    assert rows is not None
    moved = set(rows.coalesce().indices()[0].tolist())
    assert 4 in moved, "the one item of user 0"
    values = rows.to_dense()
    assert values[4].any() and not values[[5, 6, 7, 8, 9]].any(), "what the neighbours had"


@pytest.mark.usefixtures("everybody")
def test_users_without_neighbours_have_no_loss_and_those_with_one_item_are_in_the_training() -> None:
    terms = [WeightedTerm(USERS), WeightedTerm(USERS, np.full(5, 0.1, np.float32), name="distillation")]
    objective = Objective.of(CONFIG, terms, ITEMS, CPU, {"user_neighbours": NEAR})
    assert objective.rows.tolist() == [0, 1, 2, 4]
    assert Objective.of(CONFIG, terms[:1], ITEMS, CPU).rows.tolist() == [1, 2, 4]
    objective.begin_epoch(model_of())
    with_it = objective(model_of().eval(), torch.arange(5), 1).item()
    only_items = Objective.of(CONFIG, terms[:1], ITEMS, CPU)(model_of().eval(), torch.arange(5), 1).item()
    assert with_it - only_items == pytest.approx(0.1 * losses(model_of().eval()).sum().item() / 5, rel=1e-3)


@torch.no_grad()
def test_the_students_of_a_batch_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().eval()
    drawn = torch.stack([losses(model, seed=seed) for seed in range(400)])
    monkeypatch.setattr(students, "STUDENTS", 1.0)
    everybody = losses(model)
    assert (drawn > 0).float().mean(0)[[0, 1, 2, 4]].tolist() == pytest.approx([0.25] * 4, abs=0.1)
    assert not drawn[:, 3].any()
    torch.testing.assert_close(drawn, everybody * 4 * (drawn > 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "near",
    [NEAR[:4], NEAR + 1, NEAR - 1, NEAR.astype(np.float32), NEAR[:, 0]],
    ids=["few", "high", "low", "real", "flat"],
)
def test_neighbours_that_do_not_fit_are_refused(near: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="needs a row of the feature user_neighbours for each of 5 users"):
        make_term(WeightedTerm(USERS, name="distillation"), CONFIG, ITEMS, {"user_neighbours": near}, CPU)


# Whole trainings -----------------------------------------------------------------------------------------------------


def fit(folder: Path, ring: Histories, watch: Watch, config: Recommender = CONFIG, **given: Any) -> Path:
    folder.mkdir(exist_ok=True)
    near = np.random.default_rng(2).integers(-1, len(ring), (len(ring), 3)).astype(np.int32)
    terms = [WeightedTerm(ring), WeightedTerm(ring, np.full(len(ring), 0.5, np.float32), name="distillation")]
    features = {"item_vectors": VECTORS, "user_neighbours": near} | given.pop("features", {})
    items = given.pop("items", ITEMS)
    about = {"item_table": "dual-view", "features": features, "device": "cpu"}
    train(config, terms, items, 1, folder, watch=watch, **about, **given)
    return folder


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_it_goes_on_after_a_kill_with_the_same_bytes(
    tmp_path: Path, ring: Histories, watch: Watch, averaging: float
) -> None:
    def interrupt(done: int, *_: object, **__: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    config = CONFIG.model_copy(update={"averaging": averaging})
    with suppress(KeyboardInterrupt):
        fit(tmp_path / "killed", ring, watch, config, progress=interrupt)
    assert len(log_of(tmp_path / "killed")) == 2
    killed, whole = fit(tmp_path / "killed", ring, watch, config), fit(tmp_path / "whole", ring, watch, config)
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


def test_teachers_are_those_of_the_averaged_weights(
    tmp_path: Path, ring: Histories, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    genuine = Objective.begin_epoch

    def begin_epoch(self: Objective, model: Model, *given: Any, **named: Any) -> None:
        seen.append(next(iter(model.item_table.per_item().values())).detach().clone())
        genuine(self, model, *given, **named)

    monkeypatch.setattr(Objective, "begin_epoch", begin_epoch)
    nobody = Histories.of([], [])
    unwatched = Watch(nobody, np.zeros(0, np.int32), nobody)
    config = CONFIG.model_copy(update={"averaging": 0.5})
    for epochs in (1, 2):
        fit(tmp_path / str(epochs), ring, unwatched, config.model_copy(update={"epochs": epochs}))
    assert len(seen) == 3
    kept = next(iter(load(tmp_path / "1", "cpu").item_table.per_item().values()))
    assert torch.equal(seen[2], kept), "what the first epoch leaves is what teaches in the second"


def test_a_refresh_goes_on_from_it_and_new_items_have_their_texts(
    tmp_path: Path, ring: Histories, watch: Watch
) -> None:
    first = fit(tmp_path / "first", ring, watch)
    more = np.concatenate([VECTORS, VECTORS[5:6] + 0.01])
    old_rows = np.array([*range(ITEMS + 1), 0])
    still = CONFIG.model_copy(update={"learning_rate": 1e-9, "epochs": 1})
    nobody = Histories.of([], [])
    unwatched = Watch(nobody, np.zeros(0, np.int32), nobody)
    refreshed = fit(
        tmp_path / "on",
        ring,
        unwatched,
        still,
        items=ITEMS + 1,
        features={"item_vectors": more},
        start_from=first,
        old_rows=old_rows,
    )
    then, now = load(first, "cpu").table.detach(), load(refreshed, "cpu").table.detach()
    torch.testing.assert_close(now[: ITEMS + 1], then, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(now[ITEMS + 1, 16:], now[5, 16:], rtol=0.1, atol=0.05)
    with pytest.raises(InputError, match="has item table dual-view and this training dual-view without sharing"):
        fit(tmp_path / "other", ring, watch, start_from=first, table_without=["sharing"])


def test_what_it_was_trained_without_is_kept(tmp_path: Path, ring: Histories, watch: Watch) -> None:
    folder = fit(tmp_path / "whole", ring, watch, table_without=["cross-attention", "sharing"])
    assert load(folder, "cpu").item_table.without == ("cross-attention", "sharing")
    one = load(fit(tmp_path / "one", ring, watch, table_without=["co-view"]), "cpu")
    assert one.item_table.width == 16


def test_inputs_tell_trainings_with_different_parts_apart(tmp_path: Path, ring: Histories, watch: Watch) -> None:
    inputs = TrainingInputs(CONFIG, [WeightedTerm(ring)], ITEMS, 1, tmp_path, "cpu", watch=watch)
    without = replace(inputs, table_without=("sharing",))
    assert without.signature != inputs.signature
    without.write(tmp_path)
    assert TrainingInputs.read(tmp_path).signature == without.signature
