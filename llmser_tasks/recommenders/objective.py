"""What is minimised: weighted terms, each of them a loss per user, computed together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.features import Features
from llmser_tasks.recommenders.finished import finish
from llmser_tasks.recommenders.items.table import Gathered
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms import make_term
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, UserTerm, WeightedTerm


@dataclass(frozen=True)
class Objective:
    """L = (1/|B|) Σ_u Σ_k w_ku · L_k(u) over the users u of a batch and the terms k.

    |B| counts users, whatever their weights: raising one user's weight moves that user's share alone. All terms make
    the same random draws.

    Attributes:
        weights: (K, U) w.
        rows: users who teach something, in a term with a weight above 0.
    """

    terms: Sequence[UserTerm]
    weights: Tensor
    rows: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        config: Recommender,
        given: Sequence[WeightedTerm],
        items: int,
        device: torch.device,
        features: Features | None = None,
    ) -> Objective:
        """
        Raises:
            InputError: the terms do not fit each other, an item is unknown, a feature is missing, or no term teaches
                anything.
        """
        weights = _weights(given)
        for term in given:
            if len(term.sequences.items):
                ids = term.sequences.unmarked().items
                low, high = int(ids.min()), int(ids.max())
                if low < 1 or high > items:
                    raise InputError(f"Training histories hold items {low}–{high}, but the catalogue is 1–{items}.")
        terms = [make_term(term, config, items, features or {}, device) for term in given]
        teaches = np.array([term.teaches() for term in terms])
        rows = np.flatnonzero((teaches & (weights > 0)).any(0))
        if not len(rows):
            raise InputError(
                f"None of {weights.shape[1]} training histories has two items, so there is no next item to learn; "
                "lower the core filter or bring more interactions."
            )
        return cls(terms, torch.from_numpy(weights).to(device), rows)

    def begin_epoch(
        self, model: Model, group: ProcessGroup = ALONE, seen: Seen | None = None, *, epoch: int = 1
    ) -> None:
        """To be called before the first batch of every epoch, with the weights as early stopping judges them.

        Args:
            seen: what it made of the watched contexts with these very weights, where that is known.
        """
        for term in self.terms:
            term.begin_epoch(model, group, seen, epoch=epoch)

    def completed(self, model: Model, *, trained: bool) -> Model:
        """What is judged and kept of a model: itself, or the copy of it that terms complete.

        Args:
            trained: terms have learned something; else a copy is as it was.
        """
        completing = [term for term in self.terms if term.completes]
        if not completing:
            return model
        model = finish(copy.deepcopy(model))
        for term in completing if trained else ():
            term.complete(model)
        return model

    def __call__(self, model: Model, rows: Tensor, seed: int, own: Tensor | None = None) -> Tensor:
        """The loss of one batch; `rows` (B,) on the model's device, `seed` fixes masks and negatives.

        Args:
            own: (B,) bool, the rows whose share of the loss is wanted; all by default. Shares add up to the loss.
        """
        weights = self.weights[:, rows]
        wanted = torch.ones_like(rows, dtype=torch.bool) if own is None else own
        batches = [
            term.batch(model, rows, wanted & (weight > 0), seed)
            for term, weight in zip(self.terms, weights, strict=True)
        ]
        losses = losses_of(model, batches, len(rows))
        shares = weights[0] * losses[0]
        for weight, of_term in zip(weights[1:], losses[1:], strict=True):
            shares = shares + weight * of_term
        return shares.sum() / len(rows)


def losses_of(model: Model, batches: Sequence[TermBatch], users: int) -> list[Tensor]:
    """(users,) losses of each term's part of a batch of that many users. All parts go through the model together, and
    the vectors that they need are gathered once: the gradient of a gather is as large as the table that it gathers
    from, so everything else looks into the small one.
    """
    longest = max(batch.tokens.shape[1] for batch in batches)
    lengths = torch.cat([batch.lengths for batch in batches])
    wanted = [batch.wanted_items for batch in batches]
    if not len(lengths) and not any(ids.numel() for own in wanted for ids in own):
        return [torch.zeros(users, device=model.device) for _ in batches]
    tokens = torch.cat([F.pad(batch.tokens, (0, longest - batch.tokens.shape[1])) for batch in batches])
    layout = Layout.packed(lengths)
    shown, marked = model.lay(tokens, layout)
    gathered, (laid, *known) = _gather(
        model, [shown, *(ids for own in wanted for ids in own)], any(batch.wants_all for batch in batches)
    )
    nothing = gathered.vectors.new_zeros(0, model.item_table.width)
    states = model.states_of(gathered, laid, layout, marked) if len(lengths) else nothing
    rows = iter(known)
    starts = torch.split(layout.start, [len(batch.owner) for batch in batches])
    return [
        batch.losses(Encoded(states, start, gathered.first(model.items + 1), [next(rows) for _ in own]), users)
        for batch, start, own in zip(batches, starts, wanted, strict=True)
    ]


def _gather(model: Model, ids: Sequence[Tensor], everything: bool) -> tuple[Gathered, list[Tensor]]:
    """Vectors of the items among `ids`, and `ids` as rows of these, in the same order of size.

    The gradient of what the item table trains per item is sparse: the rows gathered here. Where the whole catalogue
    is needed, the table is taken as it is.
    """
    if everything:
        return model.item_table.everything(), list(ids)
    distinct, places = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
    parts = torch.split(places, [part.numel() for part in ids])
    gathered = Gathered(distinct, model.item_table.rows(distinct))
    return gathered, [part.view_as(one) for part, one in zip(parts, ids, strict=True)]


def _weights(given: Sequence[WeightedTerm]) -> NDArray[np.float32]:
    """(K, U) the weights of all terms, which are about the same users."""
    if not given:
        raise InputError("A training needs a term to minimise; name one.")
    users = given[0].sequences.users
    for term in given:
        if not np.array_equal(term.sequences.users, users):
            raise InputError("The terms of a training need sequences of exactly the same users.")
        for per_user in (term.weights, term.context):
            if per_user is not None and per_user.shape != (len(users),):
                raise InputError(
                    f"The term {term.name} needs a weight and a context for each of {len(users)} users, "
                    f"but has them for {len(per_user)}."
                )
        if term.weights is not None and not (np.isfinite(term.weights) & (term.weights >= 0)).all():
            raise InputError(f"The term {term.name} needs weights that are 0 or more for each of {len(users)} users.")
    ones = np.ones(len(users), np.float32)
    return np.stack([ones if term.weights is None else term.weights.astype(np.float32) for term in given])
