"""Which fields make an item's text, in which order, and what the catalogue keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dumps import full, titles, write

from llmser_tasks.core.config import Dataset, from_flat, to_flat
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.text import clean_title
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.item_text import item_texts, one_text

META: list[dict[str, Any] | bytes] = [
    {"asin": "i0", "title": "Soap, 4 oz.", "brand": "Soapy", "category": ["Bath", "Soap"], "price": "$3.50"},
    {"asin": "i1", "title": "Comb", "category": ["Hair"]},
    {"asin": "i2", "brand": "Nameless"},
]


def folder(workspace: Workspace, dataset: Dataset) -> Path:
    return workspace.folder(sequences(workspace, dataset, ingest(workspace, dataset))["catalogue"])


def texts(workspace: Workspace, dataset: Dataset) -> list[str | None]:
    found: list[str | None] = Catalogue.read(folder(workspace, dataset)).texts.to_pylist()
    return found


def test_the_format_says_what_makes_a_text(workspace: Workspace, tmp_path: Path) -> None:
    known = Catalogue.read(folder(workspace, write(tmp_path, full(), META)))
    assert known.texts.to_pylist() == ["Soap, 4 oz. Soapy. Bath, Soap", "Comb. Hair", "Nameless", None]
    assert known.titles.to_pylist() == ["Soap, 4 oz.", "Comb", None, None]
    assert known.texts_of([2, 0, 3]) == ["Comb. Hair", None, "Nameless"]
    assert known.titled.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("price", "title"), ["$3.50. Soap, 4 oz.", "Comb", None, None]),
        (("brand",), ["Soapy", "Comb", "Nameless", None]),
        (("title",), ["Soap, 4 oz.", "Comb", None, None]),
    ],
)
def test_a_setting_says_it_otherwise(
    workspace: Workspace, tmp_path: Path, fields: tuple[str, ...], expected: list[str | None]
) -> None:
    """What an item does not have is left out; one that has none of the fields has its title."""
    assert texts(workspace, write(tmp_path, full(), META, item_text=fields)) == expected


def test_titles_that_say_all_there_is_make_the_same_catalogue_whatever_the_setting(
    workspace: Workspace, tmp_path: Path
) -> None:
    """So what was made of it is not made again, to the bit."""
    alone = write(tmp_path, full(), titles(), item_text=("title",))
    usual = alone.model_copy(update={"item_text": ("title", "brand", "categories")})
    made = [sequences(workspace, dataset, ingest(workspace, dataset))["catalogue"] for dataset in (alone, usual)]
    assert made[0].content == made[1].content and made[0].path != made[1].path
    assert pq.read_schema(workspace.folder(made[1]) / "items.parquet").names == ["item", "item_id", "title"]


def test_the_catalogue_of_an_earlier_version_has_titles_for_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item": [1], "item_id": ["i0"], "title": ["Soap"]}), tmp_path / "items.parquet")
    pq.write_table(pa.table({"user": [0], "user_id": ["u0"]}), tmp_path / "users.parquet")
    assert Catalogue.read(tmp_path).texts.to_pylist() == ["Soap"]


def test_another_text_reads_no_dump_again(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full(), META)
    read = ingest(workspace, dataset)
    other = ingest(workspace, dataset.model_copy(update={"item_text": ("title", "price")}))
    assert other.unchanged and other.path == read.path


@pytest.mark.parametrize(
    "parts",
    [
        ["Soap <b", "Brand>", "Bath"],
        ["Soap {a:", "b;", "c}"],
        ["x" * 499, "Brand"],
        ["Soap &", "lt;b>"],
        ["function", "f() {", "}"],
    ],
)
def test_a_text_is_clean_whatever_its_parts_make_together(parts: list[str]) -> None:
    assert [clean_title(part) for part in parts] == parts
    text = one_text(parts)
    assert text is None or (clean_title(text) == text and len(text) <= 500)


def test_texts_are_one_a_row() -> None:
    table = pa.table({"title": ["a", None, "c!"], "brand": [None, "b", "B"]})
    assert item_texts(table, ["title", "brand"]).to_pylist() == ["a", "b", "c! B"]


# The setting ---------------------------------------------------------------------------------------------------------


def test_formats_have_their_own_defaults_and_a_file_may_say_otherwise() -> None:
    amazon = ("title", "brand", "categories")
    assert from_flat({}).dataset.item_text == from_flat({"source": "amazon-2023"}).dataset.item_text == amazon
    assert from_flat({"source": "yelp"}).dataset.item_text == ("title", "categories", "city")
    assert from_flat({"source": "yelp", "item_text": []}).dataset.item_text == ("title", "categories", "city")
    assert from_flat({"source": "yelp", "item_text": ["title"]}).dataset.item_text == ("title",)
    config = from_flat({"source": "yelp", "item_text": ["city", "title"]})
    assert from_flat(to_flat(config)) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"source": "yelp", "item_text": ["title", "stars"]},
            r"^Setting item_text .*'stars' is no field of yelp, which has title, categories, city\.$",
        ),
        (
            {"item_text": ["title", "city"]},
            r"'city' is no field of amazon-2014, which has title, brand, categories, price, description\.$",
        ),
        ({"item_text": ["title", "title"]}, r"it names a field twice\.$"),
    ],
)
def test_a_field_that_is_none_is_refused_with_those_that_there_are(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_flat(values)
