"""Marks: what a model adds to the vectors of items that were made up, not chosen, wherever it is shown some."""

from __future__ import annotations

from torch import Tensor

from llmser_tasks.sequences.histories import MARK


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Ids without marks, and bool where there was one, both shaped like `tokens`."""
    return unmarked(tokens), tokens >= MARK


def marked(tokens: Tensor, which: Tensor) -> Tensor:
    """The same with marks where `which` (bool) says so; also on numbers of rows, as `split` takes them off again."""
    return tokens + which * MARK


def unmarked(tokens: Tensor) -> Tensor:
    return tokens & (MARK - 1)
