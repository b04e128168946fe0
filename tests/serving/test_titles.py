from __future__ import annotations

import pyarrow as pa
import pytest

from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.serving.titles import Match, Titles

TITLES = ["Dayberry Daily Shampoo for Fine Hair, 2 oz", None, "Dayberry Ceramic Flat Iron", "漢方 シャンプー", "!!!",
          "Dayberry Daily Shampoo (for fine hair) 2 OZ"]  # fmt: skip


@pytest.fixture
def titles() -> Titles:
    return Titles(Catalogue(pa.array([f"i{n}" for n in range(6)]), pa.array(TITLES), pa.array([], pa.string())))


@pytest.mark.parametrize(
    ("written", "item"),
    [
        ("dayberry  CERAMIC flat-iron", 3),
        ("<b>Dayberry</b> Ceramic Flat Iron&nbsp;", 3),
        ("Dayberry\x1b[31m Ceramic", None),
        ("漢方シャンプー", None),
        ("漢方 シャンプー", 4),
        ("!!!", 5),
    ],
)
def test_equal_but_for_case_punctuation_and_markup(titles: Titles, written: str, item: int | None) -> None:
    match = titles.match(written)
    assert (match.item if match and match.exact else None) == item


def test_of_equal_titles_the_first_is_taken(titles: Titles) -> None:
    assert titles.match("dayberry daily shampoo for fine hair 2 oz") == Match(1, str(TITLES[0]), True, 100.0, 1)


def test_else_the_most_similar(titles: Titles) -> None:
    match = titles.match("dayberry ceramic iron")
    assert match and (match.item, match.exact) == (3, False)
    match = titles.match("Dayberry Shampo for Fine Hair")
    assert match and match.item == 1 and 75 <= match.likeness < 100


@pytest.mark.parametrize("written", ["Dayberry", "Dayberry Lawn Mower with Petrol Engine", "zzz", "", "?"])
def test_one_shared_word_of_many_is_not_similar(titles: Titles, written: str) -> None:
    match = titles.match(written)
    assert match is None or written == "Dayberry"  # all its words are in a title


def test_without_any_title_nothing_is_found() -> None:
    nothing = Catalogue(pa.array(["a"]), pa.array([None], pa.string()), pa.array([], pa.string()))
    assert Titles(nothing).match("a") is None
