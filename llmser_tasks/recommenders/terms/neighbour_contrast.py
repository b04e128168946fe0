"""Contrast between a user and the users whose texts are nearest, as SRA-CL has it (Cui et al., NeurIPS 2025): of the
teachers of all users of a batch, a user's state should be most like the user's own.

A teacher is the mean of its user's neighbours, the nearer the more, in states from the beginning of the epoch
(`teachers`). The released code encodes every neighbour in every step and learns how much each of them counts; with
texts that do not change, how near they are says nearly as much, and costs nothing.

As in self-distillation some of a batch's users stand for all: the teachers need no gradient, so all of the batch's
can be told from a user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.teachers import Teachers
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

DECLARED = Term(
    title="contrast with neighbours",
    place=4,
    features=("user_neighbours", "user_neighbour_cosines", "contrast_temperature"),
)

STUDENTS = 0.25  # share of a batch's users


@dataclass(frozen=True)
class Contrasted(TermBatch):
    """R users, a sequence each.

    Attributes:
        teachers: (N, w) of the batch's users who have any, of length 1.
        own: (R,) which of these is a user's own.
    """

    teachers: Tensor
    own: Tensor
    temperature: float

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return ()

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        states = encoded.at(torch.arange(len(self.owner), device=self.owner.device), self.lengths - 1)
        scores = F.normalize(states, dim=1) @ self.teachers.T / self.temperature
        each = F.cross_entropy(scores, self.own, reduction="none") / STUDENTS
        return torch.zeros(users, device=each.device).index_add(0, self.owner, each)


class NeighbourContrast(UserTerm):
    """-log (exp(cos(u, t_u) / τ) / Σ_v exp(cos(u, t_v) / τ)) over the users v of the batch, where u is a user's state
    behind the last item and t_v the teacher of v; its expectation, that is.

    Attributes:
        shares: (U, k) how much each neighbour counts: the softmax of cosine / τ.
    """

    def __init__(self, inputs: TermInputs) -> None:
        near, cosines = inputs.features["user_neighbours"], inputs.features["user_neighbour_cosines"]
        self.teachers = Teachers.of(near, inputs.sequences, "Contrast with neighbours")
        if cosines.shape != near.shape:
            raise InputError(
                f"Contrast with neighbours needs a cosine for each of {tuple(near.shape)} neighbours, but was given "
                f"{tuple(cosines.shape)}; hand over user_neighbour_cosines as they were found."
            )
        self.temperature = float(inputs.features["contrast_temperature"])
        known = self.teachers.neighbours > 0
        scores = (cosines.float() / self.temperature).masked_fill(~known, -torch.inf)
        self.shares = scores.softmax(dim=1).masked_fill(~known, 0.0)  # where nobody is known it is NaN
        self.sequences = Sequences.of(inputs.sequences, inputs.device)

    def teaches(self) -> NDArray[np.bool_]:
        learning: NDArray[np.bool_] = self.teachers.learning.cpu().numpy()
        return learning

    def begin_epoch(self, model: Model, group: ProcessGroup = ALONE) -> None:
        self.teachers.begin_epoch(model, group)

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Contrasted:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        drawn = torch.rand(len(rows), generator=generator, device=rows.device) < STUDENTS
        learning = self.teachers.learning[rows]
        owner = torch.nonzero(wanted & drawn & learning)[:, 0]
        tokens, lengths = model.open_ended(*self.sequences.gather(rows[owner], model.max_length))
        teachers = F.normalize(self.teachers.mean(rows[learning], self.shares), dim=1)
        own = (learning.cumsum(0) - 1)[owner]
        return Contrasted(owner, tokens, lengths, teachers, own, self.temperature)


make_term = NeighbourContrast
