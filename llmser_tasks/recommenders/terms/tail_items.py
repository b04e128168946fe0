"""Tail items, as MELT has them (Kim et al., SIGIR 2023, its item branch): a map W makes a head item's vector of the
states of a few users who were about to choose it; where a model is judged and kept, tail items have the vectors that W
makes of theirs.

L = ω · ‖W mean_k z_k - e‖², where e is the vector of a head item, which has no gradient, and z_k are states, as they
are served, after what came before the item in k ~ U[1, K] histories; ω is the curriculum's. K is the count of the
commonest tail item, at most `CONTEXTS`. (The released code takes the mean of the squares, beside a mean over positions;
here next items are summed over positions.)

What is trained is never written over: the copy of the model that is judged gets the vectors, and training goes on
without them. (The released code writes them over the rows that are trained, whose moments then belong
to other vectors.) What is shown is what came before an item, in order; the code also shows what came after it, back to
front, which no causal model has learned to read. Items are drawn for users of a batch, not walked through beside these,
so none is left out because one walk is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from llmser_tasks.recommenders.terms.students import Students, drawn, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs, UserTerm
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.head_items import head_items
from llmser_tasks.sequences.histories import Histories, ranges

DECLARED = Term(title="tail items", place=7, features=("curriculum_epochs",))

NAME = "tail-items"
CONTEXTS = 10  # most histories of an item that are looked at
RICHEST = 50  # so many more than the rarest head item has: whatever is chosen more often is as rich, to the curriculum


class FromStates(Part):
    """W, from states to vectors of items."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """(N, w)"""
        vectors: Tensor = self.map(states)
        return vectors


def make_part(width: int, features: Mapping[str, Tensor]) -> FromStates:
    del features
    return FromStates(width)


@dataclass(frozen=True)
class BeforeItems(Students):
    """R histories before n items, which as many of the batch's users stand for.

    Attributes:
        of_item: (R,) which of these items each history comes before.
        items: (n,) the items.
        users: (n,) the batch's rows that stand for them.
        weights: (n,) ω.
        shown: (R,) items of each history.
    """

    model: Model
    of_item: Tensor
    items: Tensor
    users: Tensor
    weights: Tensor
    shown: Tensor

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return (self.items,)

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        served = self.model.served(self.last(encoded), self.shown)
        made = self.model.parts[NAME](mean_of(served, self.of_item, len(self.items)))
        (rows,) = encoded.rows
        each = self.weights * (made - encoded.gathered.vectors[rows].detach()).square().sum(1)
        return for_all(each, self.users, users)


class TailItems(UserTerm):
    """Attributes:
    places: (P,) where there is an item with others before it, among all histories' items; by item.
    first, count: (I + 1,) the first of an item's places, and how many it has.
    taught: (H,) head items that have any.
    made: (N,) tail items that have any.
    most: K.
    weights: (H,) ω in this epoch.
    """

    completes: ClassVar[bool] = True

    def __init__(self, inputs: TermInputs) -> None:
        histories, device = inputs.sequences, inputs.device
        self.users = histories.lengths >= 2  # who teaches next items, too: batches are what they were
        self.sequences = Sequences.of(histories, device)
        self.max_length, self.epochs = inputs.config.max_length, int(inputs.features["curriculum_epochs"])
        before = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
        places = np.flatnonzero(before > 0)
        places = places[np.argsort(histories.items[places], kind="stable")]
        count = np.bincount(histories.items[places], minlength=inputs.items + 1)
        first = np.cumsum(count) - count
        counts = histories.counts(inputs.items)
        head = head_items(counts)
        tail = ~head & (np.arange(len(head)) > 0)
        self.most = int(counts[tail].max(initial=1).clip(1, CONTEXTS))
        taught, made = np.flatnonzero(head & (count > 0)), np.flatnonzero(tail & (count > 0))
        self.sizes = counts[taught].clip(max=int(counts[taught].min(initial=counts.max())) + RICHEST)
        self.contexts, self.of_made = _before(histories, places, before, first[made], count[made], self.max_length)
        self.places, self.before, self.first, self.count, self.taught, self.made = (
            torch.from_numpy(array).to(device) for array in (places, before[places], first, count, taught, made)
        )
        self.weights = torch.ones(len(taught), device=device)

    def teaches(self) -> NDArray[np.bool_]:
        return self.users if len(self.taught) else np.zeros_like(self.users)

    def begin_epoch(
        self, model: Model, group: ProcessGroup = ALONE, seen: Seen | None = None, *, epoch: int = 1
    ) -> None:
        del group, seen
        self.weights = torch.from_numpy(curriculum(self.sizes, epoch, self.epochs)).to(model.device)

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> BeforeItems:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        standing = drawn(rows, generator)
        which, how_many = torch.rand((2, len(rows)), generator=generator, device=rows.device)
        where = torch.rand((len(rows), self.most), generator=generator, device=rows.device)
        users = torch.nonzero(standing & wanted & bool(len(self.taught)))[:, 0]
        chosen = _share(which[users], torch.full_like(users, len(self.taught)))
        items = self.taught[chosen]
        many = 1 + _share(how_many[users], torch.full_like(users, self.most))
        taken = torch.arange(self.most, device=rows.device) < many[:, None]
        of_item = torch.nonzero(taken)[:, 0]
        place = self.first[items][of_item] + _share(where[users][taken], self.count[items][of_item])
        lengths = self.before[place].clamp(max=self.max_length)
        shown = model.open_ended(self.sequences.before(self.places[place], lengths), lengths)
        return BeforeItems(users[of_item], *shown, model, of_item, items, users, self.weights[chosen], lengths)

    @torch.no_grad()
    def complete(self, model: Model) -> None:
        of_item = torch.from_numpy(self.of_made).to(model.device)
        states = states_of(model, self.contexts)
        model.item_table.put(self.made, model.parts[NAME](mean_of(states, of_item, len(self.made))))


def mean_of(states: Tensor, of: Tensor, count: int) -> Tensor:
    """(count, w) means of those states (R, w) that belong to each; `of` (R,) says to which."""
    total = states.new_zeros(count, states.shape[1]).index_add(0, of, states)
    return total / torch.bincount(of, minlength=count).clamp(min=1)[:, None]


def _share(uniform: Tensor, count: Tensor) -> Tensor:
    """Numbers 0 … count - 1 from numbers in [0, 1)."""
    return torch.minimum((uniform * count).long(), count - 1)


def _before(
    histories: Histories,
    places: NDArray[np.int64],
    before: NDArray[np.int64],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    most: int,
) -> tuple[Histories, NDArray[np.int64]]:
    """What came before each of some items, at most `CONTEXTS` histories of each, spread over all it has.

    Returns:
        (N,) histories, and (N,) which item each is about.
    """
    many = count.clip(max=CONTEXTS)
    of_item = np.repeat(np.arange(len(count)), many)
    nth = ranges(np.zeros(len(many), np.int64), many)
    chosen = places[first[of_item] + nth * count[of_item] // many[of_item]]
    lengths = before[chosen].clip(max=most)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    users = np.arange(len(chosen), dtype=np.int32)
    return Histories(users, offsets, histories.items[ranges(chosen - lengths, lengths)]), of_item


make_term = TailItems
