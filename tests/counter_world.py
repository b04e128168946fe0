"""Small worlds for counters, and what they should say: every rule of ranking, one item after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmser_tasks.methods.counting import Counted, Test
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.vectors import ItemVectors

ITEMS = 12


def random_world(seed: int) -> tuple[Histories, Histories, np.ndarray, np.ndarray]:
    """Training histories, contexts, targets and negatives of 40 users."""
    generator = np.random.default_rng(seed)
    training = Histories.of(
        range(40), [generator.integers(1, ITEMS, generator.integers(1, 8)).tolist() for _ in range(40)]
    )  # item 12 is in no training history; items repeat
    contexts = Histories.of(range(40), [[*row, int(generator.integers(1, ITEMS + 1))] for row in training])
    targets = generator.integers(1, ITEMS + 1, 40).astype(np.int32)  # some are in the context already
    negatives = np.stack([generator.permutation(ITEMS)[:4] + 1 for _ in range(40)]).astype(np.int32)
    negatives[negatives == targets[:, None]] = 0
    return training, contexts, targets, negatives


def random_titles(folder: Path, seed: int) -> ItemVectors:
    """Written to `folder`: items 3, 7 and 11 share a title, 5 and 9 have none."""
    vectors = np.random.default_rng(seed).normal(size=(ITEMS + 1, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[7, 11]] = vectors[3]
    vectors[[0, 5, 9]] = 0
    made = ItemVectors(vectors, vectors.any(axis=1))
    made.write(folder)
    return made


def brute_force(scores: np.ndarray, context: np.ndarray, target: int, negatives: np.ndarray) -> tuple[int, int]:
    """Full and sampled rank by scores (I + 1,)."""
    others = [item for item in range(1, len(scores)) if item != target and item not in context]
    drawn = [item for item in negatives if item]
    full, sampled = (1 + int(sum(scores[item] >= scores[target] for item in rivals)) for rivals in (others, drawn))
    return full, sampled


def says(counted: Counted, test: Test, scores: list[np.ndarray]) -> None:
    """Ranks are those of these scores, one row (I + 1,) a user."""
    ((seed, negatives),) = test.negatives.items()
    cases = zip(scores, test.contexts, test.targets, negatives, strict=True)
    expected = [brute_force(*case) for case in cases]
    assert counted.full.tolist() == [full for full, _ in expected]
    assert counted.sampled[seed].tolist() == [drawn for _, drawn in expected]
