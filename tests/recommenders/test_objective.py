"""Weighted terms that do not fit each other are refused, in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.recommenders.items.table import Gathered
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.sequences.histories import Histories

CPU = torch.device("cpu")
TWO = Histories.of([0, 1], [[1, 2], [3, 4]])
ONE = Histories.of([0], [[1, 2]])


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([], "needs a term"),
        ([WeightedTerm(TWO), WeightedTerm(ONE)], "exactly the same users"),
        ([WeightedTerm(TWO, np.ones(3, np.float32))], "for each of 2 users, but has them for 3"),
        ([WeightedTerm(TWO, context=np.ones(1, np.int64))], "for each of 2 users, but has them for 1"),
        ([WeightedTerm(TWO, np.array([1, -1], np.float32))], "weights that are 0 or more"),
        ([WeightedTerm(TWO, np.array([1, np.nan], np.float32))], "weights that are 0 or more"),
        ([WeightedTerm(TWO, np.zeros(2, np.float32))], "two items"),
    ],
)
def test_terms_that_do_not_fit_are_refused(terms: list[WeightedTerm], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Objective.of(Recommender(), terms, 5, CPU)


def test_weights_count_as_often_as_they_say() -> None:
    config = Recommender(dimension=8, dropout=0)
    model = make_model(config, 5)
    once, thrice = (
        Objective.of(config, [WeightedTerm(TWO, np.full(2, weight, np.float32))], 5, CPU) for weight in (1, 3)
    )
    twice = Objective.of(config, [WeightedTerm(TWO), WeightedTerm(TWO)], 5, CPU)
    rows = torch.arange(2)
    loss = once(model, rows, 1).item()
    assert thrice(model, rows, 1).item() == pytest.approx(3 * loss)
    assert twice(model, rows, 1).item() == pytest.approx(2 * loss)


@pytest.mark.parametrize("negatives", [2, None])  # some items, or all of them
def test_a_backbone_knows_which_items_it_is_shown(negatives: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Recommender(dimension=8, dropout=0, negatives=negatives)
    model = make_model(config, 5)
    seen: list[tuple[list[int], bool]] = []
    genuine = model.embed

    def embed(gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        told = model.table.detach()[gathered.ids]
        seen.append((gathered.ids[laid].tolist(), torch.equal(told, gathered.vectors.detach())))
        return genuine(gathered, laid, layout)

    monkeypatch.setattr(model, "embed", embed)
    Objective.of(config, [WeightedTerm(TWO)], 5, CPU)(model, torch.arange(2), 1)
    model.encode(torch.tensor([[5, 2]]), torch.tensor([2]))
    assert seen == [([1, 3], True), ([5, 2], True)]
