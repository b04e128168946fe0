"""ω: how close the named item is to the masked one (ARV)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.text import clean_title
from llmser_tasks.texts.encoder import Embedder, embed_cached

ROWS = 65_536  # pairs multiplied at once; bounds memory


def cosines(
    encoder: Embedder,
    left: Sequence[str | None],
    right: Sequence[str | None],
    cache: Path,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Cosine of the BERT embeddings of two titles a row, clamped to [0, 1]: ω of LLMSeR's reliability step.

    Equal titles score exactly 1. A row where either title is missing (None, or not readable) is NaN: two
    missing titles are not equal to each other.

    Args:
        left: the masked items' titles, (n,).
        right: the named items' titles, (n,).
        cache: folder of the embedding cache, see `encoder.embed_cached`.

    Returns:
        (n,) float64.
    """
    assert len(left) == len(right), (len(left), len(right))
    clean = {title: clean_title(title) for title in {*left, *right}}
    unique = sorted({title for title in clean.values() if title})
    vectors = embed_cached(encoder, [*unique, ""], cache, progress)
    number = {title: row for row, title in enumerate(unique)}
    missing = -1  # the last vector, for a missing title
    first, second = (
        np.fromiter((number.get(clean[title] or "", missing) for title in side), np.int64, len(side))
        for side in (left, right)
    )
    scores = np.empty(len(first), np.float64)
    for start in range(0, len(first), ROWS):
        rows = slice(start, start + ROWS)
        a, b = vectors[first[rows]], vectors[second[rows]]
        scores[rows] = np.einsum("nd,nd->n", a, b, dtype=np.float64)
    scores = np.clip(scores, 0.0, 1.0)
    scores[first == second] = 1.0
    scores[(first == missing) | (second == missing)] = np.nan
    return scores
