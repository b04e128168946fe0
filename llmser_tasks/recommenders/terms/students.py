"""What terms share that are about a user's state behind the last item.

A sequence of theirs goes through the model beside the one that next items are asked of, which would double the cost of
a step. So some of a batch's users stand for all, drawn anew for each batch, with as much more weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.teachers import Teachers
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

STUDENTS = 0.25  # share of a batch's users


def drawn(rows: Tensor, generator: torch.Generator) -> Tensor:
    """(B, bool) who stands for a batch of users (B,)."""
    return torch.rand(len(rows), generator=generator, device=rows.device) < STUDENTS


@dataclass(frozen=True)
class Students(TermBatch):
    """R sequences of which the state behind the last item counts; no item is asked for."""

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return ()

    def last(self, encoded: Encoded) -> Tensor:
        """(R, w) these states."""
        return encoded.at(torch.arange(len(self.owner), device=self.owner.device), self.lengths - 1)


def for_all(each: Tensor, owner: Tensor, users: int) -> Tensor:
    """(users,) the losses (n,) of those who stand for a batch, as the batch's row (n,) that each of them is."""
    return torch.zeros(users, device=each.device).index_add(0, owner, each / STUDENTS)


class Taught(UserTerm):
    """A term whose users learn from teachers (`Teachers`); a user with one item learns, too."""

    def __init__(self, inputs: TermInputs, who: str) -> None:
        """
        Args:
            who: the term, for messages.

        Raises:
            InputError: the feature user_neighbours does not fit the users.
        """
        self.teachers = Teachers.of(inputs.features["user_neighbours"], inputs.sequences, who)
        self.sequences = Sequences.of(inputs.sequences, inputs.device)

    def teaches(self) -> NDArray[np.bool_]:
        learning: NDArray[np.bool_] = self.teachers.learning.cpu().numpy()
        return learning

    def begin_epoch(
        self, model: Model, group: ProcessGroup = ALONE, seen: Seen | None = None, *, epoch: int = 1
    ) -> None:
        del epoch
        self.teachers.begin_epoch(model, group, seen)

    def students(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a batch of users: the rows (R,) of those who stand for the wanted ones, and what the model is shown."""
        standing = drawn(rows, torch.Generator(device=rows.device).manual_seed(seed))
        owner = torch.nonzero(wanted & standing & self.teachers.learning[rows])[:, 0]
        return owner, *model.open_ended(*self.sequences.gather(rows[owner], model.max_length))
