"""Contrastive alignment with texts, as RLMRec has it (Ren et al., WWW 2024): of what a map makes of all texts of a
batch, an item's vector should be most like that of its own text.

A user's loss is the sum over the items of the sequence, as that of next items is; items without a text have none.
Processes that share a batch look at the items of all who stand for it: what an item is told from does not depend on who
is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.alignment import Between, texts_of, told_apart
from llmser_tasks.recommenders.terms.students import drawn, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

DECLARED = Term(title="contrast with texts", place=8, features=("item_vectors", "alignment_temperature"))

NAME = "text-contrast"


def make_part(width: int, features: Mapping[str, Tensor]) -> Between:
    return Between(features["item_vectors"].shape[1], width)


@dataclass(frozen=True)
class Aligned(TermBatch):
    """No sequence is shown: n distinct items are looked at, at P places of sequences.

    Attributes:
        items: (n,) ids.
        texts: (n, w) what the map makes of their texts.
        item: (P,) which of them is at each place.
        user: (P,) the batch's row that each place belongs to.
        wanted: (P,) whose loss counts; the others are there to be told from.
    """

    items: Tensor
    texts: Tensor
    item: Tensor
    user: Tensor
    wanted: Tensor
    temperature: float

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return (self.items,)

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        (rows,) = encoded.rows
        each = told_apart(encoded.gathered.vectors[rows], self.texts, self.temperature)
        return for_all(each[self.item] * self.wanted, self.user, users)


class TextContrast(UserTerm):
    def __init__(self, inputs: TermInputs) -> None:
        self.texts = texts_of(inputs)
        self.temperature = float(inputs.features["alignment_temperature"])
        self.sequences = Sequences.of(inputs.sequences.unmarked(), inputs.device)
        titled = self.texts.any(1).cpu().numpy()[inputs.sequences.unmarked().items]
        row = np.repeat(np.arange(len(inputs.sequences)), inputs.sequences.lengths)
        self.known = np.bincount(row[titled], minlength=len(inputs.sequences)) > 0

    def teaches(self) -> NDArray[np.bool_]:
        return self.known

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Aligned:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        standing = torch.nonzero(drawn(rows, generator) & bool(wanted.any()))[:, 0]
        tokens, _ = self.sequences.gather(rows[standing], model.max_length)
        place, column = torch.nonzero(self.texts.any(1)[tokens], as_tuple=True)
        items, item = torch.unique(tokens[place, column], return_inverse=True)
        nothing = rows.new_zeros(0), rows.new_zeros(0, 1), rows.new_zeros(0)
        user, texts = standing[place], model.parts[NAME](self.texts[items])
        return Aligned(*nothing, items, texts, item, user, wanted[user], self.temperature)


make_term = TextContrast
