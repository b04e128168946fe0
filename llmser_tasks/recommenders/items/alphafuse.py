"""AlphaFuse (Hu et al., SIGIR 2025): a frozen row of an item's text, and trainable ids in the directions in which texts
differ least."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders.items.frozen_text import VECTORS, FrozenText
from llmser_tasks.recommenders.items.table import PerItem

DECLARED = ItemTable(title="AlphaFuse", place=3, needs=("item-vectors",), features=("item_vectors",))

DEVIATION = 0.05  # of a frozen column
TEXTS_ALONE = 4  # one direction of so many takes no ids


class AlphaFuse(FrozenText):
    """Texts are projected onto as many principal components as a vector has numbers and whitened. Ids begin at zero, in
    the weakest directions; what is scored is a dot product, in training as in ranking.

    Both constants are chosen by validation NDCG@10 (SASRec, Beauty, seed 42, after eleven epochs; ids .0542). With the
    authors' half of the directions for ids: deviation .025 .0520, .05 .0552, .1 .0535. With three quarters, at .05:
    .0600.

    Attributes:
        strong: how many directions are the texts' alone.
        tokens: a backbone's own, which have no text, in all directions.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read_texts(self.width)
        self.strong = min(self.width // TEXTS_ALONE, self.feature(VECTORS).shape[1])
        self.ids = PerItem(self, self.width - self.strong)
        self.tokens = nn.Parameter(torch.zeros(self.size - self.items - 1, self.width))

    def initialise(self, deviation: float) -> None:
        super().initialise(deviation)
        nn.init.zeros_(self.ids.weight)
        nn.init.normal_(self.tokens, std=deviation)
        self.fit_texts(DEVIATION, whiten=True)

    def rows(self, ids: Tensor) -> Tensor:
        vectors = self.text.index_select(0, ids) + F.pad(self.ids.rows(ids), (self.strong, 0))
        if not len(self.tokens):
            return vectors
        items = int(torch.searchsorted(ids, self.items + 1))
        return torch.cat([vectors[:items], self.tokens[ids[items:] - self.items - 1]])


ITEM_TABLE = AlphaFuse
