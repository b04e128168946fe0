"""H@K, NDCG@K and MRR of one relevant item per user, from its rank."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ranks = NDArray[np.int32]

CUTS = (10, 20)
METRICS = (*(f"{letter}@{cut}" for cut in CUTS for letter in "HN"), "MRR")


def per_user(ranks: Ranks) -> dict[str, Floats]:
    """Every metric of every user.

    With one relevant item the ideal DCG is 1, so NDCG@K is 1 / log2(rank + 1) within the first K, else 0.

    Args:
        ranks: (U,) 1-based rank of each user's held-out item.

    Returns:
        Metric name → (U,), in the order of `METRICS`.
    """
    ranks = ranks.astype(np.float64)
    gain = 1 / np.log2(ranks + 1)
    values: dict[str, Floats] = {}
    for cut in CUTS:
        hit = ranks <= cut
        values[f"H@{cut}"] = hit.astype(np.float64)
        values[f"N@{cut}"] = np.where(hit, gain, 0.0)
    values["MRR"] = 1 / ranks
    return values


def means(values: Mapping[str, Floats], users: NDArray[np.bool_]) -> dict[str, float]:
    """Every metric's mean over the users of a (non-empty) group."""
    return {metric: float(value[users].mean()) for metric, value in values.items()}
