"""The arithmetic floor of training our SASRec: the products of matrices that it cannot do without."""

from __future__ import annotations

import numpy as np

from llmser_tasks.core.config import Recommender

MODEL = {name: getattr(Recommender(), name) for name in ("dimension", "layers", "heads", "learning_rate")}


def multiply_adds(lengths: np.ndarray, items: int, loss: str, max_len: int) -> int:
    """Multiply-adds of matrix products in one epoch of our SASRec, padding and gathers left out.

    A history of n items has L = min(n - 1, max_len) positions; d is the width, and the feed-forward block is d wide.
    """
    d, layers = MODEL["dimension"], MODEL["layers"]
    positions = np.minimum(lengths - 1, max_len).clip(min=0).astype(np.int64)
    tokens = int(positions.sum())
    pairs = int((positions * (positions + 1) // 2).sum())  # a position looks at itself and at what came before
    per_token = 3 * d * d  # query, key, value
    per_token += d * d  # attention's output
    per_token += 2 * d * d  # feed-forward: two products
    per_pair = d + d  # score of a pair, and its share of the weighted sum of values
    compared = {"bce": 2, "sampled-softmax": 1 + 1024, "cross-entropy": items}[loss]  # items scored per position
    forward = layers * (tokens * per_token + pairs * per_pair) + tokens * compared * d
    return 3 * forward  # backward, each product costs two more: by its input and by its weight
