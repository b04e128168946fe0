"""Batches: rows of the flat histories gathered on the device, trimmed to the longest of the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.sequences.histories import Histories

CHUNK = 16  # batches among which users are sorted by length


@dataclass(frozen=True)
class Sequences:
    """Histories on the device they are trained on.

    Attributes:
        items: (Σ n_u + 1,) int64, a 0 behind the last item so that every index may be read.
        offsets: (U + 1,) int64, as in `Histories`.
    """

    items: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, histories: Histories, device: torch.device) -> Sequences:
        items = torch.from_numpy(np.append(histories.items, 0).astype(np.int64))
        offsets = torch.from_numpy(histories.offsets.astype(np.int64))
        return cls(items.to(device), offsets.to(device))

    def gather(self, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The newest `most` items of each row, oldest first, padded with 0 on the right.

        Args:
            rows: (B,) row numbers on the same device.

        Returns:
            tokens (B, longest), lengths (B,). `longest` is at least 1.
        """
        ends = self.offsets[rows + 1]
        lengths = (ends - self.offsets[rows]).clamp(max=most)
        longest = max(int(lengths.max()), 1) if len(rows) else 1
        places = torch.arange(longest, device=rows.device)
        real = places < lengths[:, None]
        tokens = self.items[torch.where(real, (ends - lengths)[:, None] + places, 0)]
        return tokens.masked_fill_(~real, 0), lengths


def plan_epoch(cost: NDArray[np.int64], batch_size: int, seed: int) -> list[NDArray[np.int64]]:
    """Cut the rows 0 … U-1 into shuffled batches whose rows cost about the same, so that little is padding.

    Users are shuffled, sorted by cost within chunks of 16 batches, cut into batches, and the batches are shuffled.

    Args:
        cost: (U,) length of each row's sequence.

    Returns:
        Row numbers of each batch; every row once.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(cost))
    step = CHUNK * batch_size
    chunks = [order[start : start + step] for start in range(0, len(order), step)]
    by_cost = [chunk[np.argsort(cost[chunk], kind="stable")] for chunk in chunks]
    batches = [c[start : start + batch_size] for c in by_cost for start in range(0, len(c), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]
