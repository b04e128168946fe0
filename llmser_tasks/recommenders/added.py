"""What may be added to a model's scores wherever it ranks."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Added(Protocol):
    """A number for every context and item, which its score grows by.

    A row is the number of a context among those that are scored. The number of one row and item must be the same, to
    the bit, whatever else is asked for with it: ranking compares a target with other items by numbers that it asked for
    at different times. Both functions answer with float32 on the device of the model.
    """

    def tile(self, rows: NDArray[np.int64], first: int, last: int) -> Tensor:
        """(B, last - first) for rows (B,) and the items first + 1 … last, as a tensor that the caller may change."""

    def of(self, rows: NDArray[np.int64], candidates: Tensor) -> Tensor:
        """(B, C) for rows (B,) and each one's own items (B, C); of padding, 0, it does not matter which number."""
