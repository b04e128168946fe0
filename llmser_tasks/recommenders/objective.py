"""What is minimised: the loss of whole sequences, and Dual-Channel Training's weighted pair of them (LLMSeR Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.kernels.gather import pick, pick_distinct
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.losses import LossFunction, make_loss, make_sampler
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.negatives import Negatives, Sampler
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Posed:
    """A channel's part in a batch: R sequences, and P positions in them that have a loss, sequence by sequence.

    Attributes:
        owner: (R,) the batch's row that each sequence belongs to.
        tokens: (R, L) what the model is shown, padded with 0 on the right.
        lengths: (R,) how much of each sequence is real.
        sequence: (P,) which sequence each position is in.
        column: (P,) its place there.
        positives: (P,) the item that it should predict.
        negatives: of these positions.
    """

    owner: Tensor
    tokens: Tensor
    lengths: Tensor
    sequence: Tensor
    column: Tensor
    positives: Tensor
    negatives: Negatives
    loss: LossFunction

    def select(self, kept: Tensor) -> Posed:
        """Some of the sequences, `kept` (R, bool)."""
        if bool(kept.all()):
            return self
        positions = kept[self.sequence]
        return Posed(
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
class Channel:
    """One sequence per user, and the negatives that go with it.

    Attributes:
        context: (U,) how many of a sequence's first items are shown but never a target; None: no item is.
    """

    sequences: Sequences
    sampler: Sampler
    loss: LossFunction
    context: Tensor | None = None

    @classmethod
    def of(
        cls,
        config: Recommender,
        histories: Histories,
        items: int,
        device: torch.device,
        context: NDArray[np.int64] | None = None,
    ) -> Channel:
        sampler = make_sampler(config, histories, items, device, context)
        leading = None if context is None else torch.from_numpy(context).to(device)
        return cls(Sequences.of(histories, device), sampler, make_loss(config, items), leading)

    def pose(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Posed:
        """What to ask about those of the batch's rows (B,) that are `wanted` (B, bool) and have a loss.

        What is random (masks, negatives) is drawn for all rows before the unwanted are left out: a user's loss does
        not depend on who else is wanted.
        """
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        tokens, lengths = self.sequences.gather(rows, model.max_length + 1)
        examples = model.examples(tokens, lengths, generator, self._context_left(rows, lengths))
        sequence, column = torch.nonzero(examples.predict, as_tuple=True)
        positives = examples.positives[sequence, column]
        negatives = self.sampler.draw(rows[sequence], positives, generator)
        owner = torch.arange(len(rows), device=rows.device)
        posed = Posed(owner, examples.tokens, examples.lengths, sequence, column, positives, negatives, self.loss)
        return posed.select(wanted & examples.predict.any(1))

    def losses(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Tensor:
        """(B,) L(S_u), the sum over the positions of each row's sequence; 0 where `wanted` is false."""
        return solve(model, [self.pose(model, rows, wanted, seed)], len(rows))[0]

    def _context_left(self, rows: Tensor, lengths: Tensor) -> Tensor | None:
        """(B,) context items among the newest `lengths` of each row."""
        if self.context is None:
            return None
        cut_off = self.sequences.offsets[rows + 1] - self.sequences.offsets[rows] - lengths
        return (self.context[rows] - cut_off).clamp(min=0)


def solve(model: Model, parts: Sequence[Posed], rows: int) -> list[Tensor]:
    """The summed losses (rows,) of each part, 0 for rows that are not in it.

    All parts go through the model together, and the embeddings that they need are gathered once: the gradient of a
    gather is as large as the table that it gathers from, so everything else looks into the small one.
    """
    longest = max(part.tokens.shape[1] for part in parts)
    lengths = torch.cat([part.lengths for part in parts])
    if not len(lengths):
        return [torch.zeros(rows, device=model.device) for _ in parts]
    tokens = torch.cat([F.pad(part.tokens, (0, longest - part.tokens.shape[1])) for part in parts])
    layout = Layout.packed(lengths)
    laid = layout.lay(tokens)
    table, (shown, *known) = _gather(
        model,
        [laid, *(part.positives for part in parts), *(part.negatives.items for part in parts)],
        parts[0].negatives.whole,
    )
    states = model.contextual(table, shown, layout)
    totals = []
    of_parts = torch.split(layout.start, [len(part.owner) for part in parts])
    for part, start, positives, items in zip(parts, of_parts, known[: len(parts)], known[len(parts) :], strict=True):
        places = start[part.sequence] + part.column
        every = len(places) == len(states) and torch.equal(places, torch.arange(len(places), device=places.device))
        own = states if every else pick(states, places)
        each = part.loss(own, positives, replace(part.negatives, items=items), table[: model.items + 1])
        totals.append(torch.zeros(rows, device=model.device).index_add(0, part.owner[part.sequence], each))
    return totals


def _gather(model: Model, ids: Sequence[Tensor], whole: bool) -> tuple[Tensor, list[Tensor]]:
    """Embeddings of the items among `ids`, and `ids` as rows of these, in the same order of size.

    The gradient of the model's own table is sparse: the rows gathered here. Where the whole catalogue is needed, the
    table is taken as it is.
    """
    if whole:
        return model.item_embedding.weight, list(ids)
    distinct, places = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
    parts = torch.split(places, [part.numel() for part in ids])
    table = pick_distinct(model.item_embedding.weight, distinct)
    return table, [part.view_as(one) for part, one in zip(parts, ids, strict=True)]


@dataclass(frozen=True)
class Objective:
    """L = (1/|B|) Σ_u [(1 - α_u) · L(S_u) + α_u · L(S̃_u)] over the users of a batch.

    α is each user's own and |B| counts users, whatever their α: raising one user's α moves that user's share alone.
    A channel whose weight is 0 is not computed. Both channels use the same random draws.

    Attributes:
        plain: S_u.
        enhanced: S̃_u, None for ordinary training.
        alpha: (U,) α_u; zeros for ordinary training.
        rows: users that teach something: two items or more in a sequence that has a weight.
    """

    plain: Channel
    enhanced: Channel | None
    alpha: Tensor
    rows: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        config: Recommender,
        histories: Histories,
        items: int,
        device: torch.device,
        enhanced: Histories | None = None,
        alpha: NDArray[np.float64] | None = None,
        context: NDArray[np.int64] | None = None,
    ) -> Objective:
        """
        Args:
            context: (U,) how many of each enhanced sequence's first items are never targets.

        Raises:
            InputError: enhanced and alpha do not fit histories, an item is unknown, or no sequence has two items.
        """
        if (enhanced is None) != (alpha is None):
            raise InputError("Dual-channel training needs enhanced sequences and weights together; one is missing.")
        weights = np.zeros(len(histories)) if alpha is None else alpha
        if weights.shape != (len(histories),) or not ((weights >= 0) & (weights <= 1)).all():
            raise InputError(
                f"Dual-channel training needs a weight α between 0 and 1 for each of {len(histories)} users."
            )
        if enhanced is not None and not np.array_equal(enhanced.users, histories.users):
            raise InputError("Dual-channel training needs an enhanced sequence for exactly the users with a history.")
        for sequences in (histories, enhanced):
            if sequences is not None and len(sequences.items):
                low, high = int(sequences.items.min()), int(sequences.items.max())
                if low < 1 or high > items:
                    raise InputError(f"Training histories hold items {low}–{high}, but the catalogue is 1–{items}.")
        seen = config.max_length + 1
        plain_length = np.minimum(histories.lengths, seen)
        enhanced_length = np.minimum(enhanced.lengths, seen) if enhanced is not None else np.zeros_like(plain_length)
        rows = np.flatnonzero((plain_length >= 2) & (weights < 1) | (enhanced_length >= 2) & (weights > 0))
        if not len(rows):
            raise InputError(
                f"None of {len(histories)} training histories has two items, so there is no next item to learn; "
                "lower the core filter or bring more interactions."
            )
        return cls(
            plain=Channel.of(config, histories, items, device),
            enhanced=None if enhanced is None else Channel.of(config, enhanced, items, device, context),
            alpha=torch.from_numpy(weights.astype(np.float32)).to(device),
            rows=rows,
        )

    def __call__(self, model: Model, rows: Tensor, seed: int, own: Tensor | None = None) -> Tensor:
        """The loss of one batch; `rows` (B,) on the model's device, `seed` fixes masks and negatives.

        Args:
            own: (B,) bool, the rows whose share of that loss is wanted; all by default. Shares add up to the loss.
        """
        alpha = self.alpha[rows]
        wanted = torch.ones_like(rows, dtype=torch.bool) if own is None else own
        parts = [self.plain.pose(model, rows, wanted & (alpha < 1), seed)]
        if self.enhanced is not None:
            parts.append(self.enhanced.pose(model, rows, wanted & (alpha > 0), seed))
        losses = solve(model, parts, len(rows))
        shares = (1 - alpha) * losses[0]
        if self.enhanced is not None:
            shares = shares + alpha * losses[1]
        return shares.sum() / len(rows)
