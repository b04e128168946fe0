"""Contrast between a user and the users whose texts are nearest, as SRA-CL has it (Cui et al., NeurIPS 2025): of the
teachers of all users of a batch, a user's state should be most like the user's own.

A teacher is the mean of its user's neighbours, the nearer the more, in states from the beginning of the epoch
(`teachers`). The released code encodes every neighbour in every step and learns how much each of them counts; with
texts that do not change, how near they are says nearly as much, and costs nothing.

The teachers need no gradient, so those of a whole batch can be told from a user's own, whoever stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.students import Students, Taught, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs

DECLARED = Term(
    title="contrast with neighbours",
    place=4,
    features=("user_neighbours", "user_neighbour_cosines", "contrast_temperature"),
)


@dataclass(frozen=True)
class Contrasted(Students):
    """R users, a sequence each.

    Attributes:
        teachers: (N, w) of the batch's users who have any, of length 1.
        own: (R,) which of these is a user's own.
    """

    teachers: Tensor
    own: Tensor
    temperature: float

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        scores = F.normalize(self.last(encoded), dim=1) @ self.teachers.T / self.temperature
        return for_all(F.cross_entropy(scores, self.own, reduction="none"), self.owner, users)


class NeighbourContrast(Taught):
    """-log (exp(cos(u, t_u) / τ) / Σ_v exp(cos(u, t_v) / τ)) over the users v of the batch, where u is a user's state
    behind the last item and t_v the teacher of v; its expectation, that is.

    Attributes:
        shares: (U, k) how much each neighbour counts: the softmax of cosine / τ.
    """

    def __init__(self, inputs: TermInputs) -> None:
        super().__init__(inputs, "Contrast with neighbours")
        near, cosines = inputs.features["user_neighbours"], inputs.features["user_neighbour_cosines"]
        if cosines.shape != near.shape:
            raise InputError(
                f"Contrast with neighbours needs a cosine for each of {tuple(near.shape)} neighbours, but was given "
                f"{tuple(cosines.shape)}; hand over user_neighbour_cosines as they were found."
            )
        self.temperature = float(inputs.features["contrast_temperature"])
        known = self.teachers.neighbours > 0
        scores = (cosines.float() / self.temperature).masked_fill(~known, -torch.inf)
        self.shares = scores.softmax(dim=1).masked_fill(~known, 0.0)  # where nobody is known it is NaN

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Contrasted:
        owner, tokens, lengths = self.students(model, rows, wanted, seed)
        learning = self.teachers.learning[rows]
        teachers = F.normalize(self.teachers.mean(rows[learning], self.shares), dim=1)
        own = (learning.cumsum(0) - 1)[owner]
        return Contrasted(owner, tokens, lengths, teachers, own, self.temperature)


make_term = NeighbourContrast
