"""Generative alignment with texts, as RLMRec has it (Ren et al., WWW 2024): some items of a sequence are masked, and
what a map makes of the states there should be most like the texts of these very items, among all that are masked in a
batch.

A masked item is shown as nothing but its place: padding, whose vector is zero and is never trained. The first item of a
sequence is never masked, before which a causal model has seen nothing, nor is one without a text; of the others, one is
masked at least.

Processes that share a batch mask the same items for all who stand for it: what a text is told from does not depend on
who is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.alignment import Between, texts_of, told_apart
from llmser_tasks.recommenders.terms.students import Students, drawn, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs, UserTerm

DECLARED = Term(
    title="reconstruction of texts",
    place=9,
    features=("item_vectors", "alignment_temperature", "alignment_masked"),
)

NAME = "text-reconstruction"


def make_part(width: int, features: Mapping[str, Tensor]) -> Between:
    return Between(width, features["item_vectors"].shape[1])


@dataclass(frozen=True)
class Masked(Students):
    """R sequences, masked at P places.

    Attributes:
        sequence, column: (P,) the places.
        own: (P,) which of the texts belongs to each.
        texts: (n, D) of the distinct items that are masked.
        temperature: τ.
    """

    map: nn.Module
    sequence: Tensor
    column: Tensor
    own: Tensor
    texts: Tensor
    temperature: float

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        made = self.map(encoded.at(self.sequence, self.column))
        each = told_apart(made, self.texts, self.temperature, self.own)
        return for_all(each, self.owner[self.sequence], users)


class TextReconstruction(UserTerm):
    """Attributes:
    share: of the items that are masked.
    """

    def __init__(self, inputs: TermInputs) -> None:
        self.texts = texts_of(inputs)
        self.temperature = float(inputs.features["alignment_temperature"])
        self.share = float(inputs.features["alignment_masked"])
        sequences = inputs.sequences.unmarked()
        self.sequences = Sequences.of(sequences, inputs.device)
        maskable = self.texts.any(1).cpu().numpy()[sequences.items]
        newest = np.repeat(sequences.offsets[1:], sequences.lengths) - np.arange(len(sequences.items))
        maskable &= newest < np.repeat(sequences.lengths.clip(max=inputs.config.max_length), sequences.lengths)
        row = np.repeat(np.arange(len(sequences)), sequences.lengths)
        self.known = np.bincount(row[maskable], minlength=len(sequences)) > 0

    def teaches(self) -> NDArray[np.bool_]:
        return self.known

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Masked:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        standing = drawn(rows, generator)
        tokens, lengths = self.sequences.gather(rows, model.max_length)
        chance = torch.rand(tokens.shape, generator=generator, device=tokens.device)
        maskable = self.texts.any(1)[tokens]
        maskable[:, 0] = False
        chance = chance.masked_fill(~maskable, 2.0)
        masked = (chance < self.share) | (chance == chance.amin(1, keepdim=True)) & maskable
        masked &= standing[:, None]
        texts = torch.unique(tokens[masked])
        owner = torch.nonzero(wanted & masked.any(1))[:, 0]
        sequence, column = torch.nonzero(masked[owner], as_tuple=True)
        own = torch.searchsorted(texts, tokens[owner][sequence, column])
        shown = tokens.masked_fill(masked, 0)[owner], lengths[owner]
        return Masked(owner, *shown, model.parts[NAME], sequence, column, own, self.texts[texts], self.temperature)


make_term = TextReconstruction
