"""What stands around an item, with the item itself masked."""

from __future__ import annotations

import numpy as np
import pytest

from llmser_tasks.methods.cities import contexts
from llmser_tasks.methods.cities.contexts import REACH, Contexts
from llmser_tasks.sequences.histories import Histories

HISTORIES = Histories.of(
    [0, 3, 4, 5, 9, 11],
    [[1, 2, 3], [4], [2, 2], [5, 2, 6, 2], list(range(10, 80)), [3, 1]],
)
ITEMS = 80

Window = tuple[tuple[int, int], ...]


def by_hand(item: int) -> list[Window]:
    """(place, item) of all that is near each of its places, in the order of the histories."""
    found = []
    for history in map(list, HISTORIES):
        for at, here in enumerate(history):
            near = [(other - at, history[other]) for other in range(len(history)) if 0 < abs(other - at) <= REACH]
            window = tuple((step + REACH - (step > 0), int(one)) for step, one in near if one != here)
            if here == item and window:
                found.append(window)
    return found


def windows(known: Contexts, items: list[int], many: int, seed: int | None = None) -> list[tuple[int, Window]]:
    random = None if seed is None else np.random.default_rng(seed)
    taken, of_item = known.some(np.array(items), np.full(len(items), many), random)
    return [
        (items[of], tuple((int(place), int(item)) for place, item in zip(places, row, strict=True) if item))
        for of, places, row in zip(of_item, taken.places, taken.items, strict=True)
    ]


@pytest.mark.parametrize("at_once", [1 << 14, 3])
def test_contexts_are_what_stands_near_without_the_item(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "AT_ONCE", at_once)
    known = Contexts.of(HISTORIES, ITEMS)
    assert known.count.tolist() == [0, *(len(by_hand(item)) for item in range(1, ITEMS + 1))]
    assert known.count[4] == 0, "alone"
    assert known.count[2] == 3, "not where nothing stands beside it but itself"
    assert known.count[7] == 0, "nobody had it"
    for item in (1, 2, 3, 5, 10, 40, 79):
        assert [window for _, window in windows(known, [item], 99)] == by_hand(item)


def test_a_few_are_drawn_without_replacement_or_spread_over_all() -> None:
    known = Contexts.of(HISTORIES, ITEMS)
    assert windows(known, [2, 3], 2) == [
        (2, by_hand(2)[0]), (2, by_hand(2)[1]), (3, by_hand(3)[0]), (3, by_hand(3)[1])
    ]  # fmt: skip
    assert [window for _, window in windows(known, [2], 1)] == by_hand(2)[:1]
    drawn = set()
    for seed in range(30):
        found = windows(known, [3, 2], 2, seed)
        assert [item for item, _ in found] == [3, 3, 2, 2]
        pair = {window for item, window in found if item == 2}
        assert len(pair) == 2 and pair <= set(by_hand(2))
        drawn.add(frozenset(pair))
    assert len(drawn) == 3
