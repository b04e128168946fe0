"""Of how many users anything can be asked, which titles decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmser_tasks.asking.askable import Askable
from llmser_tasks.core.config import from_flat
from llmser_tasks.core.errors import InputError
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


def test_who_can_be_summarised_is_nobodys_weight() -> None:
    wanted = {"methods": ["base", "llm-esr"], "user_vectors": "summary"}
    assert Askable.of(HISTORIES, KNOWN, from_flat(wanted)) == Askable(4, {"user-summary": 2}, None, 1, 3)
    both = from_flat(wanted | {"methods": ["base", "llm-esr", "llmser"]})
    assert Askable.of(HISTORIES, KNOWN, both) == Askable(4, {"snf": 2, "user-summary": 2, "reason": 1}, 1, 1, 3)
    untitled = Catalogue(pa.array(["a", "b", "c"]), pa.array([None, None, "Soap"]), pa.array(["u", "v", "w", "x"]))
    with pytest.raises(InputError, match=r"Nobody of dataset shop can be asked .*\(user-summary: 0 of 2 users\)\. So"):
        Askable.of(HISTORIES.select(np.array([0, 1])), untitled, from_flat(wanted)).check("shop")


def test_the_sentence_has_all_counts() -> None:
    assert Askable.of(HISTORIES, KNOWN, from_flat({})).sentence() == (
        "1 of 3 items have a title, so that few can be asked (snf: 2 of 4 users; reason: 1 of 4 users), and LLMSeR can"
        " differ from the base for 1 users"
    )
