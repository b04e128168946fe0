"""What is minimised: the loss of whole sequences, and Dual-Channel Training's weighted pair of them (LLMSeR Eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.config import Recommender
from llmser_tasks.errors import InputError
from llmser_tasks.recommenders.batches import Sequences
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.losses import LossFunction, make_loss
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.negatives import Sampler, make_sampler
from llmser_tasks.sequences.histories import Histories


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
        return cls(Sequences.of(histories, device), sampler, make_loss(config), leading)

    def losses(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Tensor:
        """(B,) L(S_u), the sum over the positions of each row's sequence; 0 where `wanted` (B, bool) is false.

        What is random (masks, negatives) is drawn for all rows before the unwanted are left out: a user's loss does
        not depend on who else is wanted.
        """
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        tokens, lengths = self.sequences.gather(rows, model.max_length + 1)
        examples = model.examples(tokens, lengths, generator, self._context_left(rows, lengths))
        owners, columns = torch.nonzero(examples.predict, as_tuple=True)  # of every position that has a loss
        negatives = self.sampler.draw(rows[owners], examples.positives[owners, columns], generator)
        totals = torch.zeros(len(rows), device=rows.device)

        kept = torch.nonzero(wanted & examples.predict.any(1))[:, 0]
        if not len(kept):
            return totals
        kept = kept[examples.lengths[kept].argsort(stable=True)]
        layout = Layout.of(examples.lengths[kept])
        row, column = kept[layout.owner], layout.column
        states = model.contextual(model.item_embedding(examples.tokens[row, column]), layout)
        predicting = torch.nonzero(examples.predict[row, column])[:, 0]
        row, column = row[predicting], column[predicting]
        numbers = torch.zeros_like(examples.predict, dtype=torch.long)
        numbers[owners, columns] = torch.arange(len(owners), device=rows.device)
        chosen = negatives.select(numbers[row, column])
        each = self.loss(states[predicting], examples.positives[row, column], chosen, model.table)
        return totals.index_add(0, row, each)

    def _context_left(self, rows: Tensor, lengths: Tensor) -> Tensor | None:
        """(B,) context items among the newest `lengths` of each row."""
        if self.context is None:
            return None
        cut_off = self.sequences.offsets[rows + 1] - self.sequences.offsets[rows] - lengths
        return (self.context[rows] - cut_off).clamp(min=0)


@dataclass(frozen=True)
class Objective:
    """L = (1/|B|) Σ_u [(1 - α_u) · L(S_u) + α_u · L(S̃_u)] over the users of a batch.

    α is each user's own and |B| counts users, whatever their α: raising one user's α moves that user's share alone.
    A channel whose weight is 0 is not computed. Both channels use the same random draws.

    Attributes:
        plain: S_u.
        enhanced: S̃_u, None for ordinary training.
        alpha: (U,) α_u; zeros for ordinary training.
        rows: users that teach something: two items or more in either sequence.
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
        rows = np.flatnonzero((plain_length >= 2) | (enhanced_length >= 2))
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

    def __call__(self, model: Model, rows: Tensor, seed: int) -> Tensor:
        """The loss of one batch; `rows` (B,) on the model's device, `seed` fixes masks and negatives."""
        alpha = self.alpha[rows]
        shares = (1 - alpha) * self.plain.losses(model, rows, alpha < 1, seed)
        if self.enhanced is not None:
            shares = shares + alpha * self.enhanced.losses(model, rows, alpha > 0, seed)
        return shares.sum() / len(rows)
