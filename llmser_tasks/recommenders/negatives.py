"""Negatives: items a user did not choose, drawn for a whole batch at once.

Those shared by a batch carry weights that correct for how they were drawn (the logQ correction of Bengio and Senécal,
2008): Σ_k weight_k · exp(s_k) is an unbiased estimate of the softmax's Σ_j exp(s_j), whatever the draws favour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Negatives:
    """What a loss compares the positives with.

    Attributes:
        items: (K,) distinct ascending items shared by all positions, or (P, K) items of each position.
        log_weight: (K,) logarithm of how many items of the catalogue each shared one stands for; None if per position.
        whole: the shared ones are all items there are.
    """

    items: Tensor
    log_weight: Tensor | None = None
    whole: bool = False

    def select(self, positions: Tensor) -> Negatives:
        """The negatives of some positions."""
        return self if self.log_weight is not None else Negatives(self.items[positions])


class Sampler(Protocol):
    """Draws the negatives of a batch."""

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        """
        Args:
            rows: (P,) the history row that each position belongs to.
            positives: (P,) the item that each position should predict.
        """


class WholeCatalogue:
    """Every item, each standing for itself."""

    def __init__(self, items: int, device: torch.device) -> None:
        self._all = Negatives(torch.arange(1, items + 1, device=device), torch.zeros(items, device=device), True)

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        del rows, positives, generator
        return self._all


class SharedUniform:
    """`count` draws with replacement from 1 … `items`, shared by the batch; each stands for items / count items."""

    def __init__(self, items: int, count: int) -> None:
        self.items = items
        self.count = count

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        del positives
        drawn = torch.randint(1, self.items + 1, (self.count,), generator=generator, device=rows.device)
        distinct, times = torch.unique(drawn, return_counts=True)
        return Negatives(distinct, (times * (self.items / self.count)).log())


class SharedPopular:
    """`count` draws with replacement, shared by the batch, each item in proportion to its count plus one.

    The plus one keeps items that nobody chose within reach; without them the partition could not be estimated. A draw
    of item j, of probability q_j, stands for 1 / (count · q_j) items.
    """

    def __init__(self, counts: NDArray[np.int64], count: int, device: torch.device) -> None:
        smoothed = torch.from_numpy(counts[1:] + 1.0)
        self.count = count
        self._ends = (smoothed.cumsum(0) / smoothed.sum()).to(device)
        self._log_weight = -(count * smoothed / smoothed.sum()).log().float().to(device)

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        del positives
        uniform = torch.rand(self.count, generator=generator, device=rows.device, dtype=torch.float64)
        drawn = torch.searchsorted(self._ends, uniform, right=True).clamp_(max=len(self._ends) - 1)
        distinct, times = torch.unique(drawn, return_counts=True)
        return Negatives(distinct + 1, times.log() + self._log_weight[distinct])


class BatchPositives:
    """What the batch's own positions should predict, plus `count` uniform draws, shared by the batch.

    Positives alone would never show an item that nobody chose (mixed negative sampling, Yang et al., 2020). Of P
    positives each is item j with probability p_j, its share of the training targets, so P · p_j + count / items of j
    are expected among all draws and one stands for the inverse of that.
    """

    def __init__(self, counts: NDArray[np.int64], count: int, device: torch.device) -> None:
        self.items = len(counts) - 1
        self.count = count
        self._share = torch.from_numpy(counts / max(1, counts.sum())).float().to(device)

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        del rows
        uniform = torch.randint(1, self.items + 1, (self.count,), generator=generator, device=positives.device)
        distinct, times = torch.unique(torch.cat([positives, uniform]), return_counts=True)
        expected = len(positives) * self._share[distinct] + self.count / self.items
        return Negatives(distinct, (times / expected).log())


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

    def draw(self, rows: Tensor, positives: Tensor, generator: torch.Generator) -> Negatives:
        del positives
        uniform = torch.rand((len(rows), self.count), generator=generator, device=rows.device, dtype=torch.float64)
        if not devices.on_gpu(rows):
            items = torch.empty(uniform.shape, dtype=torch.long)
            seen = array(self._first), array(self._gaps)
            _nth_unseen(array(rows), array(uniform), *seen, self.items, array(items))
            return Negatives(items)
        start = self._first[rows]
        unseen = self.items - (self._first[rows + 1] - start)
        has_all = unseen == 0
        span = torch.where(has_all, self.items, unseen)[:, None]
        nth = torch.minimum((uniform * span).long(), span - 1)
        key = rows[:, None] * (self.items + 1) + nth
        skipped = torch.searchsorted(self._gaps, key, right=True) - start[:, None]
        return Negatives(nth + 1 + torch.where(has_all[:, None], 0, skipped))


@compiled
def _nth_unseen(rows: Ints, uniform: Floats, first: Ints, gaps: Ints, items: int, out: Ints) -> None:
    """The search that `UnseenUniform` describes, among each position's own row's gaps only."""
    for place in range(len(rows)):
        row = rows[place]
        start, end = first[row], first[row + 1]
        unseen = items - (end - start)
        span = unseen if unseen else items
        for k in range(out.shape[1]):
            nth = min(int(uniform[place, k] * span), span - 1)
            low, high = start, end if unseen else start
            while low < high:  # the first gap beyond the nth
                middle = (low + high) // 2
                if gaps[middle] <= row * (items + 1) + nth:
                    low = middle + 1
                else:
                    high = middle
            out[place, k] = nth + 1 + low - start


def own(
    config: Recommender,
    histories: Histories,
    items: int,
    device: torch.device,
    context: NDArray[np.int64] | None = None,
) -> Sampler:
    """For a loss whose positions have their own negatives."""
    del context
    return UnseenUniform(histories, items, config.negatives_drawn, device)


def whole(
    config: Recommender,
    histories: Histories,
    items: int,
    device: torch.device,
    context: NDArray[np.int64] | None = None,
) -> Sampler:
    """For a loss that takes all items."""
    del config, histories, context
    return WholeCatalogue(items, device)


def shared(
    config: Recommender,
    histories: Histories,
    items: int,
    device: torch.device,
    context: NDArray[np.int64] | None = None,
) -> Sampler:
    """For a loss whose negatives a batch shares; if the catalogue has no more items than that, it takes all."""
    count = config.negatives_drawn
    if count >= items:
        return WholeCatalogue(items, device)
    if config.negatives_from == "uniform":
        return SharedUniform(items, count)
    counts = target_counts(histories, items, context)
    drawn = SharedPopular if config.negatives_from == "popularity" else BatchPositives
    return drawn(counts, count, device)


def target_counts(histories: Histories, items: int, context: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """(items + 1,) how often each item is to be predicted from those before it; a history's first item never is."""
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
    shown = 1 if context is None else np.repeat(np.maximum(context, 1), histories.lengths)
    return np.bincount(histories.items[place >= shown], minlength=items + 1)
