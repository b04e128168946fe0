"""Contrast between views of a user's sequence, as SRA-CL has it (Cui et al., NeurIPS 2025): two copies of the sequence,
in each of which some items are replaced by others with nearly the same text, should be told from other users' copies.

Processes that share a batch encode the copies of all who stand for it: whom a user is told from does not depend on who
is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders import marks
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.students import Students, drawn, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs, UserTerm

DECLARED = Term(
    title="contrast of views",
    place=5,
    features=("item_neighbours", "contrast_replaced", "contrast_temperature"),
)


@dataclass(frozen=True)
class Views(Students):
    """n users, two sequences each: the first copies of all, then the second ones.

    Attributes:
        wanted: (n, bool) whose loss counts; the others are there to be told from.
    """

    wanted: Tensor
    temperature: float

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        count = len(self.wanted)
        copies = torch.arange(2 * count, device=self.owner.device)
        states = F.normalize(self.last(encoded), dim=1)
        scores = (states @ states.T / self.temperature).fill_diagonal_(-torch.inf)
        each = F.cross_entropy(scores, copies.roll(count), reduction="none").view(2, count).mean(0)
        return for_all(each * self.wanted, self.owner[:count], users)


class ViewContrast(UserTerm):
    """The mean over a user's two copies x, y of -log (exp(cos(x, y) / τ) / Σ_z exp(cos(x, z) / τ)), where z are all
    other copies of the users who stand for the batch; of states behind the last item.

    Every item of a copy is replaced with the same probability, by any of its neighbours alike. One that has none stays,
    and a short copy often stays as it is: dropout is then all that tells the two apart.

    Attributes:
        near: (I + 1, k) item ids, 0 where there are fewer, at the end.
        known: (I + 1,) how many there are.
    """

    def __init__(self, inputs: TermInputs) -> None:
        self.near = inputs.features["item_neighbours"].long()
        fits = self.near.ndim == 2 and len(self.near) == inputs.items + 1 and self.near.shape[1] > 0
        if not fits or not 0 <= int(self.near.min()) <= int(self.near.max()) <= inputs.items:
            raise InputError(
                f"Contrast of views needs a row of the feature item_neighbours for padding and each of {inputs.items} "
                f"items, with ids of items or 0, but was given {tuple(self.near.shape)}."
            )
        self.known = (self.near > 0).sum(1)
        self.replaced = float(inputs.features["contrast_replaced"])
        self.temperature = float(inputs.features["contrast_temperature"])
        self.sequences = Sequences.of(inputs.sequences, inputs.device)

    def teaches(self) -> NDArray[np.bool_]:
        known: NDArray[np.int64] = np.diff(self.sequences.offsets.cpu().numpy())
        return known > 0

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Views:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        standing = drawn(rows, generator)
        tokens, lengths = self.sequences.gather(rows, model.max_length)
        copies = [self._replaced(tokens, generator) for _ in range(2)]
        kept = torch.nonzero(standing & (lengths > 0) & bool(wanted.any()))[:, 0]
        shown = model.open_ended(torch.cat([copy[kept] for copy in copies]), lengths[kept].repeat(2))
        return Views(kept.repeat(2), *shown, wanted[kept], self.temperature)

    def _replaced(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """A copy of tokens (B, L); marks stay where they are."""
        shape = (2, *tokens.shape)
        chance, which = torch.rand(shape, generator=generator, device=tokens.device)
        items = marks.unmarked(tokens)
        known = self.known[items]
        place = torch.minimum((which * known).long(), known - 1).clamp(min=0)
        other = self.near[items, place]
        return tokens + torch.where((chance < self.replaced) & (known > 0), other - items, 0)


make_term = ViewContrast
