"""Items that nobody has in training are no negatives: nothing pushes them away."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmser_tasks.core.config import NegativesFrom, Recommender
from llmser_tasks.core.kinds import LOSSES
from llmser_tasks.recommenders import Watch, WeightedTerm, load, train
from llmser_tasks.recommenders.losses import cross_entropy as whole
from llmser_tasks.recommenders.losses import make_sampler
from llmser_tasks.recommenders.losses.cross_entropy import cross_entropy
from llmser_tasks.recommenders.negatives import (
    BatchPositives,
    Sampler,
    SharedPopular,
    SharedUniform,
    UnseenUniform,
    WholeCatalogue,
    had_items,
    target_counts,
)
from llmser_tasks.sequences.histories import Histories

CPU = torch.device("cpu")
ITEMS, COLD = 40, np.array([1, 7, 8, 23, 40])
SETTINGS = [
    *(Recommender(loss=loss) for loss in LOSSES),
    *(Recommender(negatives=16, negatives_from=source) for source in get_args(NegativesFrom)),
]


def histories(cold: np.ndarray = COLD) -> Histories:
    """Thirty users of six of the other items each, all of which somebody has."""
    others = np.setdiff1d(np.arange(1, ITEMS + 1), cold)
    random = np.random.default_rng(0)
    rows = [random.permutation(others)[:6] for _ in range(24)]
    return Histories.of(np.arange(30), [*rows, *np.resize(others, 36).reshape(6, 6)])


def drawn(sampler: Sampler, of: Histories, seed: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Items of many positions' negatives, and their weights."""
    rows = torch.arange(len(of)).repeat_interleave(5)
    positives = torch.from_numpy(np.concatenate([row[1:] for row in of]).astype(np.int64))
    found = sampler.draw(rows, positives, torch.Generator().manual_seed(seed))
    return found.items, None if found.log_weight is None else found.log_weight.exp()


@pytest.mark.parametrize("config", SETTINGS, ids=lambda c: f"{c.loss}-{c.negatives_from}-{c.negatives}")
def test_an_item_that_nobody_has_is_never_a_negative(config: Recommender) -> None:
    of = histories()
    sampler = make_sampler(config, of, ITEMS, CPU)
    times = np.zeros(ITEMS + 1)
    for seed in range(200):
        items, weights = drawn(sampler, of, seed)
        assert weights is None or (items.diff() > 0).all()
        counted = torch.ones(items.shape) if weights is None else weights
        times += np.bincount(items.flatten().numpy(), counted.flatten().numpy(), minlength=ITEMS + 1)
    assert not times[COLD].any() and not times[0]
    assert (np.delete(times, [0, *COLD]) > 0).all(), "all others are"
    if weights is not None:
        assert times.sum() / 200 == pytest.approx(ITEMS - len(COLD), rel=0.05), "together they stand for all others"


@pytest.mark.parametrize("config", SETTINGS, ids=lambda c: f"{c.loss}-{c.negatives_from}-{c.negatives}")
def test_where_somebody_has_each_item_draws_are_what_they_were(config: Recommender) -> None:
    of = histories(np.array([], int))
    counts, count = target_counts(of, ITEMS), config.negatives_drawn
    before: Sampler = {
        "uniform": SharedUniform(ITEMS, count),
        "popularity": SharedPopular(counts, count, CPU),
        "batch": BatchPositives(counts, count, CPU),
    }[config.negatives_from]
    if not LOSSES[config.loss].shared:
        before = UnseenUniform(of, ITEMS, count, CPU)
    if config.loss == "cross-entropy" or (LOSSES[config.loss].shared and count >= ITEMS):
        before = WholeCatalogue(ITEMS, CPU)
    now = make_sampler(config, of, ITEMS, CPU)
    assert type(now) is type(before)
    for seed in range(3):
        for one, other in zip(drawn(now, of, seed), drawn(before, of, seed), strict=True):
            assert one is other is None or (one is not None and other is not None and torch.equal(one, other))


def test_own_negatives_are_uniform_over_the_others_that_somebody_else_has() -> None:
    of = histories()
    sampler = make_sampler(Recommender(loss="gbce", negatives=9), of, ITEMS, CPU)
    rows = torch.zeros(6000, dtype=torch.long)
    items = sampler.draw(rows, torch.full_like(rows, int(of[0][1])), torch.Generator().manual_seed(0)).items
    times = np.bincount(items.flatten().numpy(), minlength=ITEMS + 1)
    others = np.setdiff1d(np.arange(1, ITEMS + 1), [*COLD, *of[0]])
    np.testing.assert_allclose(times[others] / times.sum(), 1 / len(others), rtol=0.08)
    assert times[others].sum() == times.sum()


def test_what_is_only_shown_before_somebody_s_own_items_is_nobody_s() -> None:
    of = Histories.of([0, 1], [[5, 1, 2], [4, 5, 3]])
    context = np.array([1, 2])
    assert np.flatnonzero(had_items(of, 6)).tolist() == [1, 2, 3, 4, 5]
    assert np.flatnonzero(had_items(of, 6, context)).tolist() == [1, 2, 3]
    rows = torch.tensor([0, 1] * 50)
    for config in (Recommender(loss="bce", negatives=4), Recommender(negatives=4)):
        sampler = make_sampler(config, of, 6, CPU, context)
        found = sampler.draw(rows, torch.tensor([1, 3] * 50), torch.Generator().manual_seed(0)).items
        assert set(found.flatten().tolist()) <= {1, 2, 3}


@pytest.mark.parametrize("scores", [1 << 20, 2 * ITEMS], ids=["at once", "in chunks"])
def test_cross_entropy_is_over_the_items_that_somebody_has(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "SCORES", scores)
    random = torch.Generator().manual_seed(0)
    states, table = torch.randn(7, 8, generator=random), torch.randn(ITEMS + 1, 8, generator=random).requires_grad_()
    others = np.setdiff1d(np.arange(1, ITEMS + 1), COLD)
    positives = torch.from_numpy(others[:7])
    sampler = make_sampler(Recommender(loss="cross-entropy"), histories(), ITEMS, CPU)
    negatives = sampler.draw(positives, positives, random)
    found = cross_entropy(states, positives, negatives, table)
    expected = torch.nn.functional.cross_entropy(states @ table[others].T, torch.arange(7), reduction="none")
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), table)
    assert not gradient[COLD].any() and gradient[others].any(1).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_after_training_such_an_item_is_where_it_began(loss: str, tmp_path: Path) -> None:
    of = histories()
    config = Recommender(
        backbone="gru4rec", loss=loss, negatives=16, dimension=8, layers=1, epochs=2, dropout=0.0, averaging=0.0
    )
    watch = Watch(of.drop_last(), of.last(), of.drop_last())
    texts = torch.nn.functional.normalize(torch.randn(ITEMS + 1, 6, generator=torch.Generator().manual_seed(1)))
    texts[0] = 0
    features = {"item_vectors": texts.numpy()}
    train(config, [WeightedTerm(of)], ITEMS, 1, tmp_path, watch=watch, item_table="text-start", features=features)
    model = load(tmp_path)
    started = model.item_table.beginnings()["ids.weight"]
    rank = 5  # six numbers, of which normalised ones vary in as many directions
    moved = (load_file(tmp_path / "model.safetensors")["item_table.ids.weight"] - started)[:, :rank].abs().amax(1)
    assert moved[COLD].max() < 1e-6
    assert np.delete(moved.numpy(), [0, *COLD]).min() > 1e-4
