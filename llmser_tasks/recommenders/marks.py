"""Marks: what a model adds to the vectors of items that were made up, not chosen, wherever it is shown some."""

from __future__ import annotations

from torch import Tensor

from llmser_tasks.sequences.histories import MARK


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Ids without marks, and bool where there was one, both shaped like `tokens`."""
    return unmarked(tokens), tokens >= MARK


def unmarked(tokens: Tensor) -> Tensor:
    return tokens & (MARK - 1)
