"""Of how many users anything can be asked, which titles decide."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from llmser_tasks.asking.askable import Askable
from llmser_tasks.core.config import from_flat
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories

KNOWN = Catalogue(pa.array(["a", "b", "c"]), pa.array(["Soap", None, None]), pa.array(["u", "v", "w", "x"]))
HISTORIES = Histories.of([0, 1, 2, 3], [[2, 1], [1, 2], [2, 3], [3]])


@pytest.mark.parametrize(
    ("without", "steps", "gaining"),
    [
        ([], {"snf": 2, "reason": 1}, 1),
        (["reason"], {"snf": 2}, 1),
        (["arv"], {"snf": 2}, 2),
        (["snf"], {"reason": 1}, 1),
        (["snf", "arv"], {}, 4),
    ],
)
def test_a_step_asks_where_what_it_shows_or_masks_has_a_title(
    without: list[str], steps: dict[str, int], gaining: int
) -> None:
    config: Any = from_flat({"without": without})
    assert Askable.of(HISTORIES, KNOWN, config) == Askable(4, steps, gaining, 1, 3)


def test_the_sentence_has_all_counts() -> None:
    assert Askable.of(HISTORIES, KNOWN, from_flat({})).sentence() == (
        "1 of 3 items have a title, so that few can be asked (snf: 2 of 4 users; reason: 1 of 4 users), and LLMSeR can"
        " differ from the base for 1 users"
    )
