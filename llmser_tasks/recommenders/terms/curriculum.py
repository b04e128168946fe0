"""MELT's curriculum (Kim et al., SIGIR 2023): what tells most comes first, what is nearly tail later."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def curriculum(sizes: NDArray[np.int64], epoch: int, epochs: int) -> NDArray[np.float32]:
    """|sin(π/2 · (e / e_max + (n - n_min) / (n_max - n_min)))| for each size n, of lengths or counts: at the beginning
    0 for the least and 1 for the largest one, at the end the other way round.

    Args:
        epoch: from 1; after the last one it stays as it is there.
        epochs: e_max; 0: everything counts alike, always.
    """
    if not epochs or not len(sizes):
        return np.ones(len(sizes), np.float32)
    spread = max(1, int(sizes.max() - sizes.min()))
    along = min(1.0, (epoch - 1) / epochs) + (sizes - sizes.min()) / spread
    weights: NDArray[np.float32] = np.abs(np.sin(math.pi / 2 * along)).astype(np.float32)
    return weights
