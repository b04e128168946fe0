"""A trainable vector for every item that begins as the first principal components of its text's vector, then trains as
ids do (LLMInit; LLM-ESR begins its collaborative view so)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders.items.frozen_text import VECTORS
from llmser_tasks.recommenders.items.projection import Projection
from llmser_tasks.recommenders.items.table import PerItem, Table

DECLARED = ItemTable(title="text start", place=2, needs=("item-vectors",), features=("item_vectors",), usual=True)


class TextStart(Table):
    """Components are centred, not whitened, and have one scale, so that a column deviates, in the mean, as that of a
    random table does. Items without text begin randomly, and so do columns beyond the dimensions that texts differ in.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.projection = Projection(self.feature(VECTORS).shape[1], self.width)
        self.ids = PerItem(self, self.width)

    def initialise(self, deviation: float) -> None:
        super().initialise(deviation)
        self.projection.fit(self.feature(VECTORS), deviation)
        with torch.no_grad():
            self.ids.weight.copy_(self._start())

    def beginnings(self) -> dict[str, Tensor]:
        return super().beginnings() | {"ids.weight": self._start()}

    @torch.no_grad()
    def _start(self) -> Tensor:
        """(size, width) rows as they are, with the components of texts in their columns."""
        vectors, columns = self.feature(VECTORS), self.projection.rank
        start = self.ids.weight.detach().clone()
        start[:, :columns] = torch.where(vectors.any(1, keepdim=True), self.projection(vectors), start)[:, :columns]
        return start

    def rows(self, ids: Tensor) -> Tensor:
        return self.ids.rows(ids)

    def all(self) -> Tensor:
        """The table itself, as with ids."""
        return self.ids.weight


ITEM_TABLE = TextStart
