"""Small worlds to train in: an item follows its predecessor on a ring, so the next item can be known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.histories import Histories

RING = 30


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny batches on several threads wait for each other more than they compute."""
    monkeypatch.setenv("LLMSER_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ring() -> Histories:
    """150 users who walk along the ring 1, 2, … 30, 1, …; 2 to 9 items each, ids with gaps."""
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, RING, 150), random.integers(2, 10, 150)
    walks = [(start + np.arange(length)) % RING + 1 for start, length in zip(starts, lengths, strict=True)]
    return Histories.of(np.arange(150) * 3, walks)


@pytest.fixture
def watch(ring: Histories) -> Watch:
    return Watch(ring, ring.last() % RING + 1, ring)


@pytest.fixture(params=BACKBONES)
def small(request: pytest.FixtureRequest) -> Recommender:
    """A small recommender of each backbone."""
    return Recommender(
        backbone=request.param,
        dimension=16,
        layers=1,
        heads=2,
        max_length=8,
        dropout=0.1,
        batch_size=16,
        learning_rate=1e-2,
        epochs=5,
        patience=5,
    )
