"""Exact neighbours: tile by tile the same as all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llmser_tasks.texts import neighbours as module
from llmser_tasks.texts.neighbours import NOBODY, Neighbours, neighbours

Floats = NDArray[np.float32]


@pytest.fixture(params=[2048, 64, 7, 1], ids=str)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of several sizes, also ones that hold fewer rows than neighbours are wanted."""
    monkeypatch.setattr(module, "BLOCK", request.param)


def all_at_once(vectors: Floats, k: int) -> Neighbours:
    """Every cosine in one matrix, sorted by cosine and then by number."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    rows, near = np.full((len(vectors), k), NOBODY, np.int32), np.zeros((len(vectors), k), np.float32)
    there = vectors.any(axis=1)
    for row in np.flatnonzero(there):
        others = np.flatnonzero(there & (np.arange(len(vectors)) != row))
        best = others[np.lexsort((others, -cosines[row, others]))][:k]
        rows[row, : len(best)], near[row, : len(best)] = best, cosines[row, best]
    return Neighbours(rows, near)


def corners(count: int, seed: int = 0) -> Floats:
    """Unit vectors of ±½: their cosines are exact, and nearly all of them tie."""
    return (np.random.default_rng(seed).integers(0, 2, (count, 4)) - 0.5).astype(np.float32)


def directions(count: int, seed: int = 0) -> Floats:
    drawn = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("k", [1, 4, 30])
def test_ties_go_by_number_however_the_tiles_lie(tiles: None, k: int) -> None:
    axes = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)  # different vectors, all of them at right angles
    vectors = np.concatenate([corners(40), axes, np.zeros((2, 4), np.float32), corners(5, seed=1)])
    found, expected = neighbours(vectors, k), all_at_once(vectors, k)
    assert found.rows.dtype == np.int32 and found.cosines.dtype == np.float32
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.cosines, expected.cosines)


@pytest.mark.parametrize("k", [1, 10])
def test_tile_by_tile_is_the_same_as_all_at_once(tiles: None, k: int) -> None:
    vectors = directions(150)
    found, expected = neighbours(vectors, k), all_at_once(vectors, k)
    assert np.array_equal(found.rows, expected.rows)
    assert found.cosines == pytest.approx(expected.cosines, abs=1e-6)


def test_equal_rows_are_equally_close_and_never_a_row_itself(tiles: None) -> None:
    """One in three users has a single item, which many share: their vectors are the same to the last bit."""
    vectors = np.eye(5, dtype=np.float32)[np.random.default_rng(0).integers(0, 5, 200)]
    vectors[::7] = np.where(vectors[::7] == 0, -0.0, vectors[::7])  # which makes no other vector
    found = neighbours(vectors, 6)
    assert np.array_equal(found.rows, all_at_once(vectors, 6).rows)
    assert (found.rows != np.arange(200)[:, None]).all()
    assert (found.cosines == 1).all(), "everybody has six that are the same"


def test_rows_of_zeros_are_nobodys_neighbours_and_have_none(tiles: None) -> None:
    vectors = directions(12)
    vectors[[0, 5, 11]] = 0
    found = neighbours(vectors, 10)
    assert (found.rows[[0, 5, 11]] == NOBODY).all() and not found.cosines[[0, 5, 11]].any()
    assert not np.isin(found.rows, [0, 5, 11]).any()
    assert ((found.rows >= 0).sum(axis=1)[[1, 2, 3]] == 8).all(), "fewer than wanted are padded"
    assert (found.rows[1, 8:] == NOBODY).all() and not found.cosines[1, 8:].any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_anybody(count: int) -> None:
    found = neighbours(directions(count), 3)
    assert found.rows.shape == found.cosines.shape == (count, 3)
    assert (found.rows >= 0).sum() == (2 if count == 2 else 0)
    assert np.array_equal(neighbours(np.zeros((4, 3), np.float32), 2).rows, np.full((4, 2), NOBODY))


def test_they_come_back_from_their_file(tmp_path: Path) -> None:
    found = neighbours(directions(20), 3)
    found.write(tmp_path)
    again = Neighbours.read(tmp_path)
    assert np.array_equal(again.rows, found.rows) and np.array_equal(again.cosines, found.cosines)
    assert -1 < (found.mean_cosine or -1) < 1
