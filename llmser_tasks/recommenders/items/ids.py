"""A trainable vector for every item, which knows nothing about it but its id."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders.items.table import PerItem, Table

DECLARED = ItemTable(title="ids", place=1)


class Ids(Table):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ids = PerItem(self, self.width)

    def rows(self, ids: Tensor) -> Tensor:
        return self.ids.rows(ids)

    def all(self) -> Tensor:
        """The table itself: nothing is copied, and its gradient holds every row."""
        return self.ids.weight

    @torch.no_grad()
    def put(self, ids: Tensor, vectors: Tensor) -> None:
        self.ids.weight[ids] = vectors


ITEM_TABLE = Ids
