"""Users who teach others: the states of those whose texts are nearest to a user's, from the beginning of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.loop.early_stopping import Seen
from llmser_tasks.recommenders.loop.process_group import ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import states_of
from llmser_tasks.sequences.histories import Histories


@dataclass
class Teachers:
    """Who teaches whom.

    Attributes:
        neighbours: (U, k) rows of the users that teach, counted from 1; 0 where there is none.
        learning: (U, bool) who has an item and somebody who teaches.
        states: (U + 1, w) of those who teach, at the beginning of this epoch; None before the first.
    """

    neighbours: Tensor
    learning: Tensor
    histories: Histories
    states: Tensor | None = None

    @classmethod
    def of(cls, given: Tensor, histories: Histories, who: str) -> Teachers:
        """
        Args:
            given: (U, k) rows of users, -1 where there is none: the feature user_neighbours.
            who: the term, for the message.

        Raises:
            InputError: these are no rows of so many users.
        """
        users = len(histories)
        fits = given.ndim == 2 and len(given) == users and not given.is_floating_point()
        if not fits or (given.numel() and not -1 <= int(given.min()) <= int(given.max()) < users):
            raise InputError(
                f"{who} needs a row of the feature user_neighbours for each of {users} users, with rows of "
                f"users or -1, but was given {tuple(given.shape)} of {given.dtype}."
            )
        shown = torch.from_numpy(histories.lengths > 0).to(given.device)
        given = given.long()
        neighbours = torch.where((given >= 0) & shown[given.clamp(min=0)], given + 1, 0)
        return cls(neighbours, (neighbours > 0).any(1) & shown, histories)

    def begin_epoch(self, model: Model, group: ProcessGroup, seen: Seen | None = None) -> None:
        """Work out their states, with dropout off. Each process of a group encodes its share; all get all.

        Most teachers are watched users whose context is this very history: what the model made of it when it was judged
        is taken as it is, which saves a sixth of an epoch.
        """
        needed = np.unique(self.neighbours[self.learning].cpu().numpy())
        needed = needed[needed > 0] - 1
        states = torch.zeros(len(self.histories) + 1, model.item_table.width, device=self.neighbours.device)
        if seen is not None:
            row, known = self.histories.found_in(seen.contexts)
            own = seen.own[known]
            of_own = (np.cumsum(seen.own) - 1)[known[own]]
            states[torch.from_numpy(row[own] + 1)] = seen.states[torch.from_numpy(of_own)]
            needed = np.setdiff1d(needed, row, assume_unique=True)
        rest = needed[group.own(len(needed)).numpy()]
        states[torch.from_numpy(rest + 1)] = states_of(model, self.histories.select(rest))
        self.states = group.total(states)

    def mean(self, users: Tensor, weights: Tensor | None = None) -> Tensor:
        """(n, w) the mean state of the neighbours of each of these users (n,).

        Args:
            weights: (U, k) of the neighbours, which add up to 1 for each user; None: they count alike.
        """
        assert self.states is not None, "an epoch has begun"
        near = self.neighbours[users]
        if weights is None:
            return F.embedding_bag(near, self.states, mode="mean", padding_idx=0)
        return F.embedding_bag(near, self.states, mode="sum", padding_idx=0, per_sample_weights=weights[users])
