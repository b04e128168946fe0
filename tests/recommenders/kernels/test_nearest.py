"""The nearest of a row's own items, against a loop over everything; and the GPU's way, which is not compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.nearest import Lists, Own, nearest_in_tile, nearest_of

ITEMS, LISTS, ROWS = 40, 12, 9


@pytest.fixture(params=["cpu", "gpu's way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda tensor: request.param != "cpu")


def world(seed: int) -> tuple[Own, Lists, torch.Tensor]:
    """Rows with 0 to 5 of their own, lists of 0 to 8 items, and what should come of it: (ROWS, ITEMS + 1)."""
    random = np.random.default_rng(seed)
    ids = [np.sort(random.permutation(ITEMS)[: random.integers(0, 9)] + 1) for _ in range(LISTS)]
    nearness = [random.random(len(row)).astype(np.float32) for row in ids]
    own = [random.integers(0, LISTS, random.integers(0, 6)) for _ in range(ROWS)]
    weights = [random.random(len(row)).astype(np.float32) for row in own]
    expected = np.zeros((ROWS, ITEMS + 1), np.float32)
    for row in range(ROWS):
        for which, weight in zip(own[row], weights[row], strict=True):
            for item, value in zip(ids[which], nearness[which], strict=True):
                expected[row, item] = max(expected[row, item], weight * value)

    def starts(parts: list[np.ndarray]) -> torch.Tensor:
        return torch.tensor([0, *np.cumsum([len(part) for part in parts])])

    def flat(parts: list[np.ndarray], dtype: type) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(dtype))

    known = Lists(starts(ids), flat(ids, np.int32), flat(nearness, np.float32))
    return Own(starts(own), flat(own, np.int64), flat(weights, np.float32)), known, torch.from_numpy(expected)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("first", "last"), [(0, ITEMS), (0, 7), (7, 14), (36, 40)])
def test_a_tile_holds_the_nearest_of_its_items_to_the_bit(seed: int, first: int, last: int) -> None:
    own, known, expected = world(seed)
    assert torch.equal(nearest_in_tile(own, known, first, last), expected[:, first + 1 : last + 1])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("seed", range(3))
def test_single_items_are_as_near_as_in_a_tile_to_the_bit(seed: int) -> None:
    own, known, expected = world(seed)
    wanted = torch.from_numpy(np.random.default_rng(seed).integers(0, ITEMS + 1, (ROWS, 11)))
    assert torch.equal(nearest_of(own, known, wanted), expected.gather(1, wanted))


@pytest.mark.usefixtures("way")
def test_who_owns_nothing_is_near_nothing() -> None:
    _, known, _ = world(0)
    nothing = Own(torch.zeros(3, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert not nearest_in_tile(nothing, known, 0, ITEMS).any()
    assert not nearest_of(nothing, known, torch.ones(2, 4, dtype=torch.long)).any()
    no_lists = Lists(torch.zeros(1, dtype=torch.long), torch.zeros(0, dtype=torch.int32), torch.zeros(0))
    assert not nearest_of(nothing, no_lists, torch.ones(2, 4, dtype=torch.long)).any()
