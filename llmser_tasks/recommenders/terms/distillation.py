"""Self-distillation among users, as LLM-ESR has it (Liu et al., NeurIPS 2024): a user's state is drawn towards the
mean of what the model makes of the users nearest to this one.

The teachers' states are worked out once an epoch, from the weights as they are judged and without dropout. (The
released code encodes every neighbour in every step, with dropout.) The student is shown its whole sequence, as where it
is recommended to. (There the last item is missing: a user with one item then has an empty sequence, whose state has no
gradient, and teaches others nothing.)

A student's sequence goes through the model beside the one that next items are asked of, which would double the cost of
a step. So some of a batch's users stand for all, drawn anew for each batch, with as much more weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.teachers import Teachers
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

DECLARED = Term(title="self-distillation", place=3, features=("user_neighbours",))

STUDENTS = 0.25  # share of a batch's users


@dataclass(frozen=True)
class Students(TermBatch):
    """R users, a sequence each.

    Attributes:
        taught: (R, w) what their states are drawn to.
    """

    taught: Tensor

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return ()

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        states = encoded.at(torch.arange(len(self.owner), device=self.owner.device), self.lengths - 1)
        each = (states - self.taught).square().mean(1) / STUDENTS
        return torch.zeros(users, device=each.device).index_add(0, self.owner, each)


class Distillation(UserTerm):
    """The mean over the dimensions of (u - ū)², where u is a user's state behind the last item and ū the mean state of
    the user's neighbours, which has no gradient; its expectation, that is.
    """

    def __init__(self, inputs: TermInputs) -> None:
        self.teachers = Teachers.of(inputs.features["user_neighbours"], inputs.sequences, "Self-distillation")
        self.sequences = Sequences.of(inputs.sequences, inputs.device)

    def teaches(self) -> NDArray[np.bool_]:
        learning: NDArray[np.bool_] = self.teachers.learning.cpu().numpy()
        return learning

    def begin_epoch(self, model: Model, group: ProcessGroup = ALONE) -> None:
        self.teachers.begin_epoch(model, group)

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Students:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        drawn = torch.rand(len(rows), generator=generator, device=rows.device) < STUDENTS
        owner = torch.nonzero(wanted & drawn & self.teachers.learning[rows])[:, 0]
        users = rows[owner]
        tokens, lengths = model.open_ended(*self.sequences.gather(users, model.max_length))
        return Students(owner, tokens, lengths, self.teachers.mean(users))


make_term = Distillation
