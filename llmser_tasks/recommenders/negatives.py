"""Negatives: items a user did not choose, drawn uniformly, for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Negatives:
    """What a loss compares the positives with.

    Attributes:
        items: (K,) distinct ascending items shared by all positions, or (P, K) items of each position.
        log_weight: (K,) logarithm of how many items of the catalogue each shared one stands for; None if per position.
    """

    items: Tensor
    log_weight: Tensor | None = None

    def select(self, positions: Tensor) -> Negatives:
        """The negatives of some positions."""
        return self if self.log_weight is not None else Negatives(self.items[positions])


class Sampler(Protocol):
    """Draws the negatives of a batch."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> Negatives:
        """`rows` (P,): the history row that each position belongs to."""


class SharedUniform:
    """`count` draws with replacement from 1 … `items`, shared by the batch; the whole catalogue where that is smaller.

    A draw stands for items / count of the catalogue, so that Σ_k weight_k · exp(s_k) is an unbiased estimate of the
    softmax's Σ_j exp(s_j) (the logQ correction with Q uniform). Equal draws are merged into one of twice the weight.
    """

    def __init__(self, items: int, count: int) -> None:
        self.items = items
        self.count = count

    def draw(self, rows: Tensor, generator: torch.Generator) -> Negatives:
        if self.count >= self.items:
            every = torch.arange(1, self.items + 1, device=rows.device)
            return Negatives(every, torch.zeros(self.items, device=rows.device))
        drawn = torch.randint(1, self.items + 1, (self.count,), generator=generator, device=rows.device)
        distinct, times = torch.unique(drawn, return_counts=True)
        return Negatives(distinct, (times * (self.items / self.count)).log())


class UnseenUniform:
    """`count` draws per position, uniform over the items that are not in the position's own history.

    Exact and without rejection: with a user's h distinct items sorted as v_0 < v_1 < …, the r-th unseen item
    (r = 0 … items - h - 1) is r + 1 + #{j : v_j - 1 - j ≤ r}. A user who has everything gets any item.
    """

    def __init__(self, histories: Histories, items: int, count: int, device: torch.device) -> None:
        self.items = items
        self.count = count
        owners = np.repeat(np.arange(len(histories)), histories.lengths)
        stride = items + 1
        keys = np.unique(owners * stride + histories.items)  # ascending, each (row, item) once
        owner, item = np.divmod(keys, stride)
        first = np.searchsorted(owner, np.arange(len(histories) + 1))
        gaps = item - 1 - (np.arange(len(keys)) - first[owner])  # v_j - 1 - j
        self._first = torch.from_numpy(first).to(device)
        self._gaps = torch.from_numpy(owner * stride + gaps).to(device)  # ascending: gaps never fall within a row

    def draw(self, rows: Tensor, generator: torch.Generator) -> Negatives:
        start = self._first[rows]
        unseen = self.items - (self._first[rows + 1] - start)
        has_all = unseen == 0
        uniform = torch.rand((len(rows), self.count), generator=generator, device=rows.device, dtype=torch.float64)
        span = torch.where(has_all, self.items, unseen)[:, None]
        nth = torch.minimum((uniform * span).long(), span - 1)
        key = rows[:, None] * (self.items + 1) + nth
        skipped = torch.searchsorted(self._gaps, key, right=True) - start[:, None]
        return Negatives(nth + 1 + torch.where(has_all[:, None], 0, skipped))


def make_sampler(loss: str, histories: Histories, items: int, count: int, device: torch.device) -> Sampler:
    """The sampler that belongs to a loss: per position for bce, shared by the batch for sampled-softmax."""
    if loss == "bce":
        return UnseenUniform(histories, items, count, device)
    return SharedUniform(items, count)
