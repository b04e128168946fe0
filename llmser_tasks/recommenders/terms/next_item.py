"""The next item: L(S_u) of a sequence (LLMSeR Eq. 7), as the backbone asks for it and the configured loss counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders import marks
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.losses import LossFunction, make_loss, make_sampler
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.negatives import Negatives, Sampler
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

DECLARED = Term(title="next item", place=1)


@dataclass(frozen=True)
class NextItemBatch(TermBatch):
    """P positions that have a loss, sequence by sequence.

    Attributes:
        sequence: (P,) which sequence each position is in.
        column: (P,) its place there.
        positives: (P,) the item that it should predict.
        negatives: those of these positions.
    """

    sequence: Tensor
    column: Tensor
    positives: Tensor
    negatives: Negatives
    loss: LossFunction

    @property
    def wanted_items(self) -> Sequence[Tensor]:
        return self.positives, self.negatives.items

    @property
    def wants_all(self) -> bool:
        return self.negatives.whole

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        positives, negatives = encoded.rows
        states = encoded.at(self.sequence, self.column)
        each = self.loss(states, positives, replace(self.negatives, items=negatives), encoded.gathered.vectors)
        return torch.zeros(users, device=each.device).index_add(0, self.owner[self.sequence], each)

    def select(self, kept: Tensor) -> NextItemBatch:
        """Some of the sequences, `kept` (R, bool)."""
        if bool(kept.all()):
            return self
        positions = kept[self.sequence]
        return NextItemBatch(
            self.owner[kept],
            self.tokens[kept],
            self.lengths[kept],
            (kept.cumsum(0) - 1)[self.sequence[positions]],
            self.column[positions],
            self.positives[positions],
            self.negatives.select(positions),
            self.loss,
        )


@dataclass(frozen=True)
class NextItem(UserTerm):
    """For one sequence per user, the sum over the positions that have a loss.

    Attributes:
        context: (U,) how many of a sequence's first items are shown but never a target; None: no item is.
        most: items of a sequence that are looked at, the newest; the first of them is no target.
    """

    sequences: Sequences
    sampler: Sampler
    loss: LossFunction
    context: Tensor | None
    most: int

    def teaches(self) -> NDArray[np.bool_]:
        known: NDArray[np.int64] = np.diff(self.sequences.offsets.cpu().numpy())
        return np.minimum(known, self.most) >= 2

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> NextItemBatch:
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        tokens, lengths = self.sequences.gather(rows, self.most)
        examples = model.examples(tokens, lengths, generator, self._context_left(rows, lengths))
        sequence, column = torch.nonzero(examples.predict, as_tuple=True)
        positives = marks.unmarked(examples.positives[sequence, column])
        negatives = self.sampler.draw(rows[sequence], positives, generator)
        owner = torch.arange(len(rows), device=rows.device)
        shown = examples.tokens, examples.lengths
        everyone = NextItemBatch(owner, *shown, sequence, column, positives, negatives, self.loss)
        return everyone.select(wanted & examples.predict.any(1))

    def _context_left(self, rows: Tensor, lengths: Tensor) -> Tensor | None:
        """(B,) context items among the newest `lengths` of each row."""
        if self.context is None:
            return None
        cut_off = self.sequences.offsets[rows + 1] - self.sequences.offsets[rows] - lengths
        return (self.context[rows] - cut_off).clamp(min=0)


def make_term(inputs: TermInputs) -> NextItem:
    config, histories, device, context = inputs.config, inputs.sequences, inputs.device, inputs.context
    return NextItem(
        sequences=Sequences.of(histories, device),
        sampler=make_sampler(config, histories, inputs.items, device, context),
        loss=make_loss(config, inputs.items),
        context=None if context is None else torch.from_numpy(context).to(device),
        most=config.max_length + 1,
    )
