"""Marks: a vector, zero at first, on items that were made up; nothing else about a model changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, sampled_ranks, top_k, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import save_description, save_weights
from llmser_tasks.recommenders.loop.parallel import VARIABLE
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.sequences.histories import MARK, Histories

RING = 30


def pseudo(ring: Histories) -> Histories:
    """Two made-up items before every history."""
    return Histories.of(ring.users, [[(row[0] - 3) % RING + 1, (row[0] - 2) % RING + 1] for row in ring])


def dual(ring: Histories, prior: Histories, targets_too: bool = False) -> list[WeightedTerm]:
    two = None if targets_too else np.full(len(ring), 2)
    return dual_channel(ring, ring.after(prior), np.linspace(0, 1, len(ring)), two)


def model(config: Recommender, marks: bool, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    return make_model(config, RING, marks=marks).eval()


def shown(model: Model, sequences: Histories) -> Tensor:
    return torch.from_numpy(top_k(model, sequences, 5, Histories.of([], []))[1])


def test_marked_and_unmarked_are_the_same_item(ring: Histories) -> None:
    marked = ring.marked()
    assert marked.any_marked and not ring.any_marked
    assert (marked.items >= MARK).all()
    assert marked.unmarked().content() == ring.content() == ring.unmarked().content()
    assert ring.marked().marked().content() == marked.content()


def test_a_fresh_mark_changes_no_score_and_one_that_is_learned_only_those_of_marked_items(
    small: Recommender, ring: Histories
) -> None:
    plain, marking = model(small, marks=False), model(small, marks=True)
    enhanced = ring.after(pseudo(ring))
    same = shown(plain, enhanced)
    for sequences in (enhanced, ring.after(pseudo(ring).marked())):
        assert torch.equal(shown(marking, sequences), same)
    assert marking.mark is not None
    with torch.no_grad():
        marking.mark.normal_()
    assert torch.equal(shown(marking, enhanced), same)
    assert not torch.allclose(shown(marking, ring.after(pseudo(ring).marked())), same)


def test_a_marked_items_vector_is_its_own_and_the_mark(small: Recommender, ring: Histories) -> None:
    """As if there were an item whose vector is the sum."""
    marking = model(small, marks=True)
    assert marking.mark is not None
    with torch.no_grad():
        marking.mark.normal_()
        marking.item_table.all()[9] = marking.item_table.all()[7] + marking.mark
    marked = Histories.of([0, 1], [[7 | MARK, 3, 4], [2, 7 | MARK]])
    torch.testing.assert_close(shown(marking, marked), shown(marking, Histories.of([0, 1], [[9, 3, 4], [2, 9]])))


@pytest.mark.parametrize("loss", ["sampled-softmax", "bce", "cross-entropy"])
def test_the_loss_of_marked_items_begins_as_that_of_unmarked_ones(
    small: Recommender, ring: Histories, loss: str
) -> None:
    config = small.model_copy(update={"loss": loss, "negatives": 4, "dropout": 0.0})
    losses = []
    for prior in (pseudo(ring), pseudo(ring).marked()):
        for targets_too in (False, True):
            objective = Objective.of(config, dual(ring, prior, targets_too), RING, torch.device("cpu"))
            marking = model(config, marks=True)
            total = objective(marking, torch.arange(16), seed=5)
            total.backward()
            assert marking.mark is not None and marking.mark.grad is not None
            assert bool(marking.mark.grad.any()) == prior.any_marked, "it is learned from marked items alone"
            losses.append(total.item())
    assert losses[:2] == losses[2:]


def test_a_training_on_marked_items_learns_a_mark_and_its_folder_keeps_it(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    prior = pseudo(ring).marked()
    seen = Watch(ring.after(prior), watch.targets, watch.exclude)
    summary = train(small, dual(ring, prior), RING, 42, tmp_path, watch=seen, device="cpu")
    trained = load(tmp_path, "cpu")
    assert trained.mark is not None and bool(trained.mark.any())
    assert json.loads((tmp_path / "config.json").read_text())["marks"] is True
    found = ranks(trained, seen.contexts, watch.targets, watch.exclude)
    ndcg = np.where(found <= 10, 1 / np.log2(1.0 + found), 0).mean()
    assert ndcg == pytest.approx(summary.ndcg)
    negatives = np.tile(np.array([1, 2, 3], np.int32), (len(ring), 1))
    assert (sampled_ranks(trained, seen.contexts, watch.targets, negatives) <= 4).all()


def test_a_training_without_marked_items_knows_nothing_of_marks(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    config = small.model_copy(update={"epochs": 1})
    train(config, dual(ring, pseudo(ring)), RING, 42, tmp_path, watch=watch, device="cpu")
    trained = load(tmp_path, "cpu")
    assert trained.mark is None and "mark" not in trained.state_dict()
    assert "marks" not in json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(InputError, match="trained without marks was shown marked items"):
        top_k(trained, ring.marked(), 3, ring)


def test_an_unknown_item_is_still_refused_when_it_is_marked(small: Recommender, ring: Histories) -> None:
    with pytest.raises(InputError, match="hold items 1–30, but the catalogue is 1–29"):
        Objective.of(small, [WeightedTerm(ring.marked())], RING - 1, torch.device("cpu"))


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_two_processes_learn_the_mark_of_one(
    backbone: str, ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Recommender(
        backbone=backbone, dimension=16, layers=1, max_length=8, dropout=0, batch_size=32, epochs=2, patience=2
    )
    prior = pseudo(ring).marked()
    seen = Watch(ring.after(prior), watch.targets, watch.exclude)
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv(VARIABLE, processes)
        folder = tmp_path / processes
        folder.mkdir()
        train(config, dual(ring, prior), RING, 42, folder, watch=seen, device="cpu")
        found.append(load(folder, "cpu").mark)
    assert found[0] is not None and found[1] is not None and bool(found[0].any())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("before", [False, True])
def test_a_warm_start_takes_the_mark_over_or_begins_at_zero(small: Recommender, tmp_path: Path, before: bool) -> None:
    earlier = model(small, marks=before, seed=3)
    if earlier.mark is not None:
        torch.nn.init.normal_(earlier.mark)
    save_weights(tmp_path, earlier)
    save_description(tmp_path, small, RING, {}, marks=before)
    begun = model(small, marks=True)
    begin_from(begun, tmp_path)
    assert begun.mark is not None
    assert torch.equal(begun.mark, torch.zeros(16) if earlier.mark is None else earlier.mark)


def test_a_training_that_goes_on_without_marked_items_keeps_the_mark_it_began_with(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    earlier, folder = tmp_path / "earlier", tmp_path / "now"
    for each in (earlier, folder):
        each.mkdir()
    begun = model(small, marks=True)
    assert begun.mark is not None
    torch.nn.init.normal_(begun.mark)
    save_weights(earlier, begun)
    save_description(earlier, small, RING, {}, marks=True)
    config = small.model_copy(update={"epochs": 1})
    train(config, [WeightedTerm(ring)], RING, 42, folder, watch=watch, start_from=earlier, device="cpu")
    kept = load(folder, "cpu").mark
    assert kept is not None and torch.equal(kept, begun.mark)
