"""Tail users, as MELT has them (Kim et al., SIGIR 2023, its user branch): of the state after a head user's latest few
items a map W makes the one after all; whoever has few items is then served with u + W u.

L = ω · ‖u_l + W u_l - u‖², where u_l is the state after the latest l ~ U[1, T] items and u the one after all of them;
ω is the curriculum's. The same residual is learned as is served. (The released code learns W u and serves u + W u; and
it takes the mean of the squares, beside a mean over positions; here next items are summed over positions.)
W begins at zero, so a model that has learned nothing yet serves as if it were not there.

u comes from the beginning of the epoch, without dropout, and has no gradient: it is what is learned, not what learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.parts import Part
from llmser_tasks.recommenders.terms.curriculum import curriculum
from llmser_tasks.recommenders.terms.students import Students
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs, UserTerm
from llmser_tasks.recommenders.topk import states_of

DECLARED = Term(title="tail users", place=6, features=("tail_length", "curriculum_epochs"))

NAME = "tail-users"


class Residual(Part):
    """u + W u for those who have at most `tail_length` items; for others u, to the bit."""

    kept: ClassVar[bool] = True
    tail_length: Tensor

    def __init__(self, width: int, tail_length: int = 0) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        self.register_buffer("tail_length", torch.tensor(tail_length))

    def forward(self, states: Tensor) -> Tensor:
        """(B, w)"""
        enhanced: Tensor = states + self.map(states)
        return enhanced

    def served(self, states: Tensor, lengths: Tensor) -> Tensor:
        return torch.where((lengths <= self.tail_length)[:, None], self(states), states)


def make_part(width: int, features: Mapping[str, Tensor]) -> Residual:
    return Residual(width, int(features.get("tail_length", 0)))


@dataclass(frozen=True)
class Shortened(Students):
    """R head users, shown a few items each.

    Attributes:
        full: (R, w) what their states are to become.
        weights: (R,) ω.
    """

    residual: nn.Module
    full: Tensor
    weights: Tensor

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        each = self.weights * (self.residual(self.last(encoded)) - self.full).square().sum(1)
        return torch.zeros(users, device=each.device).index_add(0, self.owner, each)


class TailUsers(UserTerm):
    """Attributes:
    tail_length: T, most items of a tail user; less than a model looks at, so that it can tell who is one.
    full: (U, w) states of head users at the beginning of this epoch; None before the first.
    weights: (U,) ω in this epoch.
    """

    def __init__(self, inputs: TermInputs) -> None:
        self.histories = inputs.sequences
        self.sequences = Sequences.of(inputs.sequences, inputs.device)
        self.tail_length = int(inputs.features["tail_length"])
        self.epochs = int(inputs.features["curriculum_epochs"])
        self.head = np.flatnonzero(inputs.sequences.lengths > self.tail_length)
        self.sizes = inputs.sequences.lengths[self.head].clip(max=inputs.config.max_length)
        self.is_head = torch.from_numpy(self.teaches()).to(inputs.device)
        self.full: Tensor | None = None
        self.weights = torch.zeros(len(self.histories), device=inputs.device)

    def teaches(self) -> NDArray[np.bool_]:
        teaches = np.zeros(len(self.histories), bool)
        teaches[self.head] = True
        return teaches

    def begin_epoch(
        self, model: Model, group: ProcessGroup = ALONE, seen: Seen | None = None, *, epoch: int = 1
    ) -> None:
        del seen
        own = self.head[group.own(len(self.head)).numpy()]
        full = torch.zeros(len(self.histories), model.item_table.width, device=model.device)
        full[torch.from_numpy(own).to(model.device)] = states_of(model, self.histories.select(own))
        self.full = group.total(full)
        head = torch.from_numpy(self.head).to(model.device)
        self.weights[head] = torch.from_numpy(curriculum(self.sizes, epoch, self.epochs)).to(model.device)

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Shortened:
        assert self.full is not None, "an epoch has begun"
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        drawn = torch.rand(len(rows), generator=generator, device=rows.device)
        owner = torch.nonzero(wanted & self.is_head[rows])[:, 0]
        lengths = (1 + (drawn[owner] * self.tail_length).long()).clamp(max=self.tail_length)
        users = rows[owner]
        shown = model.open_ended(self.sequences.before(self.sequences.offsets[users + 1], lengths), lengths)
        return Shortened(owner, *shown, model.parts[NAME], self.full[users], self.weights[users])


make_term = TailUsers
