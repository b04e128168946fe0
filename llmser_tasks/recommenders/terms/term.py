"""What a training minimises: the interface of all terms.

A term's part of a batch is a few sequences that the model is shown, and losses on what it makes of them. The parts of
all terms go through the model together, and the vectors of all their items are gathered once (`objective`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import TERMS
from llmser_tasks.recommenders.items.table import Gathered
from llmser_tasks.recommenders.kernels.gather import pick
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class WeightedTerm:
    """A term as a training names it: what it is about, and how much of each user's loss counts.

    Attributes:
        sequences: one per user; all terms of a training are about the same users.
        weights: (U,) 0 or more; None: 1 for everybody. A user whose weight is 0 is not computed.
        context: (U,) how many of a sequence's first items are shown but never asked for; None: no item is.
        name: the term's, among `TERMS`.
    """

    sequences: Histories
    weights: NDArray[np.float32] | None = None
    context: NDArray[np.int64] | None = None
    name: str = TERMS.default


@dataclass(frozen=True)
class TermInputs:
    """What a term is made from.

    Attributes:
        items: I; the catalogue is 1 … I.
        sequences, context: as in `WeightedTerm`.
        features: those that its declaration names, on `device`.
    """

    config: Recommender
    items: int
    device: torch.device
    sequences: Histories
    context: NDArray[np.int64] | None
    features: Mapping[str, Tensor]


@dataclass(frozen=True)
class Encoded:
    """What a model made of a term's sequences.

    Attributes:
        states: (T, w) of the sequences of all terms.
        start: (R,) where each of this term's sequences begins among them.
        gathered: items' vectors, without those of a backbone's own tokens behind them.
        rows: each tensor of `TermBatch.wanted_items`, with rows of `gathered` for ids.
    """

    states: Tensor
    start: Tensor
    gathered: Gathered
    rows: Sequence[Tensor]

    def at(self, sequence: Tensor, column: Tensor) -> Tensor:
        """(P, w) states at these places (P,) of these sequences (P,)."""
        places = self.start[sequence] + column
        every = len(places) == len(self.states) and torch.equal(places, torch.arange(len(places), device=places.device))
        return self.states if every else pick(self.states, places)


@dataclass(frozen=True)
class TermBatch(ABC):
    """A term's part of a batch of B users: R sequences.

    Attributes:
        owner: (R,) the batch's row that each sequence belongs to.
        tokens: (R, L) what the model is shown, padded with 0 on the right.
        lengths: (R,) how much of each sequence is real, at least 1.
    """

    owner: Tensor
    tokens: Tensor
    lengths: Tensor

    @property
    @abstractmethod
    def wanted_items(self) -> Sequence[Tensor]:
        """Ids, in tensors of any shape, whose vectors are needed beside those of what is shown."""

    @property
    def wants_all(self) -> bool:
        """Whether the whole catalogue's vectors are needed; a row of `gathered` is then the item's id."""
        return False

    @abstractmethod
    def losses(self, encoded: Encoded, users: int) -> Tensor:
        """(users,) the loss of each of the batch's rows; 0 for those that have no sequence here."""


class UserTerm(ABC):
    """Something to minimise, per user. A term's file has `make_term(inputs: TermInputs)`, which makes one; what it
    trains beside the model is a `Part`, which its `make_part` makes.

    Attributes:
        completes: whether it changes the model that is judged and kept (`complete`).
    """

    completes: ClassVar[bool] = False

    @abstractmethod
    def teaches(self) -> NDArray[np.bool_]:
        """(U,) the users who have a loss."""

    def begin_epoch(
        self, model: Model, group: ProcessGroup = ALONE, seen: Seen | None = None, *, epoch: int = 1
    ) -> None:
        """Work out anew what a whole epoch needs; most terms need nothing.

        It follows from the weights alone, so that a killed training goes on as if it had never stopped; what is random
        would not.

        Args:
            model: with the weights as early stopping judges them; it must be left as it is.
            group: all processes of the training, each of which is called.
            seen: what the model made of the watched contexts when it was judged; None where it was not.
            epoch: its number, from 1.
        """
        del model, group, seen, epoch  # nothing

    def complete(self, model: Model) -> None:
        """Change a copy of the model, with a finished item table, that is judged after an epoch and kept if it is the
        best; training goes on from what was copied. It follows from the weights alone.
        """
        del model  # it is complete

    @abstractmethod
    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> TermBatch:
        """The part of a batch of users `rows` (B,), for those that are `wanted` (B, bool) and have a loss.

        What is random is drawn for all rows, from `seed` alone, before the unwanted are left out: a user's loss does
        not depend on who else is wanted, and processes that share a batch draw the same.
        """
