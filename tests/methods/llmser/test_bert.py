from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.llmser.bert import cosines
from llmser_tasks.texts.encoder import Encoder, Vectors

PLANE = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "north-east": (0.6, 0.8)}


class Plane:
    """Titles in a plane, so that every cosine is known."""

    hash = "a" * 64
    dimension = 2

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> Vectors:
        return np.array([PLANE[title] for title in titles], np.float32).reshape(-1, 2)


def test_cosines_are_gathered_per_row(tmp_path: Path) -> None:
    scores = cosines(Plane(), ["east", "east", "north-east"], ["north-east", "north", "north"], tmp_path)
    assert scores.dtype == np.float64
    assert scores == pytest.approx([0.6, 0.0, 0.8], abs=1e-6)


def test_a_negative_cosine_counts_as_nothing(tmp_path: Path) -> None:
    assert cosines(Plane(), ["east"], ["west"], tmp_path) == [0.0]


def test_equal_titles_score_exactly_one(tmp_path: Path) -> None:
    assert cosines(Plane(), ["north-east", "east"], [" north-east ", "east"], tmp_path).tolist() == [1.0, 1.0]


def test_missing_titles_are_not_equal_to_each_other(tmp_path: Path) -> None:
    scores = cosines(Plane(), [None, "", "east", None, "east"], [None, "", None, "east", "east"], tmp_path)
    assert np.isnan(scores).tolist() == [True, True, True, True, False]


def test_no_rows_and_only_missing_rows(tmp_path: Path) -> None:
    assert cosines(Plane(), [], [], tmp_path).shape == (0,)
    assert np.isnan(cosines(Plane(), [None], [None], tmp_path)).all()


def test_more_rows_than_are_multiplied_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmser_tasks.methods.llmser.bert.ROWS", 2)
    scores = cosines(Plane(), ["east"] * 5, ["north-east", "north", "west", "east", "north-east"], tmp_path)
    assert scores == pytest.approx([0.6, 0, 0, 1, 0.6], abs=1e-6)


def test_a_real_bert_orders_titles_sensibly_and_repeats_itself(tmp_path: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    encoder = Encoder.open("minilm")
    left = ["Argan Oil Shampoo"] * 3
    right = ["Argan Oil Conditioner", "Nail Polish Remover", "Amazon Gift Card"]
    scores = cosines(encoder, left, right, tmp_path)
    assert scores[0] > scores[1] > scores[2] >= 0
    assert (cosines(encoder, left, right, tmp_path) == scores).all()
    assert (cosines(encoder, right, left, tmp_path / "another") == scores).all()
