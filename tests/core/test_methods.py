"""A method's name may carry an item table and what is added to its scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmser_tasks.core import kinds
from llmser_tasks.core.kinds import Addition, ItemTable, Kind, Method, Methods


@pytest.fixture
def methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Methods:
    """A base, an improved one with an item table of its own, and a counter; two tables and two additions beside ids."""
    files = {
        "methods/base.py": 'Method(title="base", place=1, reference=True, trained=True, usual=True, colour="plain")',
        "methods/own.py": 'Method(title="Own", place=2, trained=True, item_table="views", needs=("a",), colour="ours")',
        "methods/count.py": 'Method(title="count", place=0, colour="muted")',
        "items/ids.py": 'ItemTable(title="ids", place=1)',
        "items/texts.py": 'ItemTable(title="texts", place=2, needs=("a", "b"))',
        "items/views.py": 'ItemTable(title="views", place=3)',
        "added/luck.py": 'Addition(title="luck", place=1, needs=("b", "c"))',
        "added/art.py": 'Addition(title="art", place=2)',
    }
    for name, declared in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""About it."""\n\nDECLARED = {declared}\n', encoding="utf-8")
    monkeypatch.setattr(kinds, "HOUSE", tmp_path)
    monkeypatch.setattr(kinds, "ITEM_TABLES", Kind(ItemTable, "items"))
    monkeypatch.setattr(kinds, "ADDITIONS", Kind(Addition, "added"))
    return Methods(Method, "methods")


def test_parts_change_title_needs_table_and_addition(methods: Methods) -> None:
    composed = methods["base+texts+luck"]
    assert composed.title == "base + texts + luck" and composed.heading == "Base + texts + luck"
    assert composed.needs == ("a", "b", "c")
    assert (composed.item_table, composed.addition) == ("texts", "luck")
    assert not composed.reference and not composed.usual, "only the plain method is"
    assert methods["base"].reference


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "base+nothing",
        "base+",
        "+luck",
        "base+luck+texts",
        "base+ids",
        "base+texts+views",
        "base+luck+art",
        "base+luck+luck",
        "own+texts",
        "count+luck",
        "count+texts",
    ],
)
def test_what_does_not_go_together_is_no_method(methods: Methods, name: str) -> None:
    assert name not in methods
    with pytest.raises(KeyError):
        methods[name]


def test_a_method_with_a_table_of_its_own_takes_additions(methods: Methods) -> None:
    assert methods["own+luck"].needs == ("a", "b", "c") and methods["own+luck"].item_table == "views"


def test_additions_share_the_model(methods: Methods) -> None:
    assert methods.model_of("base+texts+luck") == "base+texts" and methods.model_of("own+luck") == "own"
    assert methods.module_of("base+texts+luck") == methods.module_of("base")


def test_names_are_listed_as_tables_list_them(methods: Methods) -> None:
    every = methods.every()
    assert len(every) == len(set(every)) == 1 + 3 * 3 + 3
    assert methods.sorted(["own", "base+luck", "base+texts+luck", "base", "base+texts", "base"]) == [
        "base",
        "base+texts",
        "base+texts+luck",
        "base+luck",
        "own",
    ]
    assert methods.needed_at_most("base") == ["b", "c", "a"]
