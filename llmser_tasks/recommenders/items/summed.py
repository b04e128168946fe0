"""Trainable ids, and what a trainable adapter makes of the frozen vector of an item's text, added up."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders.items.frozen_text import VECTORS, FrozenText
from llmser_tasks.recommenders.items.table import PerItem

DECLARED = ItemTable(title="ids and texts", place=4, needs=("item-vectors",), features=("item_vectors",))

COMPONENTS = 2  # for every number of a vector


class Summed(FrozenText):
    """The adapter is linear and reads twice as many principal components as a vector has numbers, in rows of about unit
    length; it begins as the first of them, at the scale of a random table, and ids at zero: as `text-start`. What the
    backbone's own tokens are begins randomly.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read_texts(min(COMPONENTS * self.width, self.feature(VECTORS).shape[1]))
        self.ids = PerItem(self, self.width)
        self.adapter = nn.Linear(self.text.shape[1], self.width, bias=False)

    @torch.no_grad()
    def initialise(self, deviation: float) -> None:
        super().initialise(deviation)
        self.fit_texts(self.text.shape[1] ** -0.5)
        first = self.text[self.text.any(1), : self.width]
        nn.init.eye_(self.adapter.weight).mul_(deviation / first.std(0, correction=0).mean())
        self.ids.weight[: self.items + 1] = 0

    def rows(self, ids: Tensor) -> Tensor:
        return self.ids.rows(ids) + F.linear(self.text.index_select(0, ids), self.adapter.weight)


ITEM_TABLE = Summed
