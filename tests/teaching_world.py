"""Five users with neighbours, and a small recommender, for terms in which users learn from each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders.terms import students
from llmser_tasks.sequences.histories import Histories

ITEMS = 30
USERS = Histories.of(range(5), [[4], [5, 6, 7], [8, 9], [10], [11, 12, 13, 14]])
NEAR: NDArray[np.int32] = np.array([[1, 2], [2, -1], [1, 4], [-1, -1], [0, 3]], np.int32)
VECTORS = np.random.default_rng(3).normal(size=(ITEMS + 1, 12)).astype(np.float32)
VECTORS[0] = 0
CONFIG = Recommender(
    dimension=16,
    layers=1,
    heads=2,
    max_length=9,
    dropout=0.1,
    batch_size=16,
    negatives=20,
    learning_rate=1e-2,
    epochs=4,
    patience=4,
)
CPU = torch.device("cpu")


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """All users are students."""
    monkeypatch.setattr(students, "STUDENTS", 1.0)


def log_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a training's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
