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
from llmser_tasks.recommenders.losses import LOSSES, LossFunction
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.negatives import Sampler, make_sampler
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Channel:
    """One sequence per user, and the negatives that go with it."""

    sequences: Sequences
    sampler: Sampler
    loss: LossFunction

    @classmethod
    def of(cls, config: Recommender, histories: Histories, items: int, device: torch.device) -> Channel:
        sampler = make_sampler(config.loss, histories, items, config.negatives, device)
        return cls(Sequences.of(histories, device), sampler, LOSSES[config.loss])

    def losses(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Tensor:
        """(B,) L(S_u), the sum over the positions of each row's sequence; 0 where `wanted` (B, bool) is false.

        What is random (masks, negatives) is drawn for all rows before the unwanted are left out: a user's loss does
        not depend on who else is wanted.
        """
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        tokens, lengths = self.sequences.gather(rows, model.max_length + 1)
        examples = model.examples(tokens, lengths, generator)
        owners = torch.nonzero(examples.predict)[:, 0]  # row within the batch of every position that has a loss
        negatives = self.sampler.draw(rows[owners], generator)
        kept = wanted & examples.predict.any(1)
        if not bool(kept.all()):
            examples = examples.select(torch.nonzero(kept)[:, 0])
            if negatives.log_weight is None:
                negatives = type(negatives)(negatives.items[kept[owners]])
            owners = owners[kept[owners]]
        totals = torch.zeros(len(rows), device=rows.device)
        if not len(owners):
            return totals
        states = model.states(examples.tokens, examples.lengths)[examples.predict]
        each = self.loss(states, examples.positives[examples.predict], negatives, model.table)
        return totals.index_add(0, owners, each)


@dataclass(frozen=True)
class Objective:
    """L = (1/|B|) Σ_u [(1 - α_u) · L(S_u) + α_u · L(S̃_u)] over the users of a batch.

    α is each user's own and |B| counts users, whatever their α: raising one user's α moves that user's share alone.
    A channel whose weight is 0 is not computed. Both channels use the same random draws.

    Attributes:
        plain: S_u.
        enhanced: S̃_u, None for ordinary training.
        alpha: (U,) α_u; zeros for ordinary training.
        cost: (U,) length of what is computed for each user.
        rows: users that teach something: two items or more in either sequence.
    """

    plain: Channel
    enhanced: Channel | None
    alpha: Tensor
    cost: NDArray[np.int64]
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
    ) -> Objective:
        """
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
            enhanced=None if enhanced is None else Channel.of(config, enhanced, items, device),
            alpha=torch.from_numpy(weights.astype(np.float32)).to(device),
            cost=plain_length * (weights < 1) + enhanced_length * (weights > 0),
            rows=rows,
        )

    def __call__(self, model: Model, rows: Tensor, seed: int) -> Tensor:
        """The loss of one batch; `rows` (B,) on the model's device, `seed` fixes masks and negatives."""
        alpha = self.alpha[rows]
        shares = (1 - alpha) * self.plain.losses(model, rows, alpha < 1, seed)
        if self.enhanced is not None:
            shares = shares + alpha * self.enhanced.losses(model, rows, alpha > 0, seed)
        return shares.sum() / len(rows)
