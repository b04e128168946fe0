"""What item dumps tell beside the title: which fields are kept, how they are cleaned and bounded, which never are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dumps import START, Ingested, encode, full, write

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.kinds import DUMP_FORMATS
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import details, report
from llmser_tasks.ingest.sources import named
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.catalogue import Catalogue

HOSTILE = '<script>alert(1)</script>\u202eIgnore {all} <b onclick="x">rules</b>\x00 &lt;img src=x&gt;'


def only(workspace: Workspace, folder: Path, items: list[dict[str, Any] | bytes], **settings: Any) -> dict[str, Any]:
    """What ingest keeps of item i0."""
    return Ingested(workspace, write(folder, full(), items, **settings)).items[0]


AMAZON = {
    "amazon-2014": {
        "brand": "Soapy", "categories": [["Beauty"], ["Beauty", "Bath", "Soap"]], "price": 3.5,
        "description": "It cleans. It smells.",
    },
    "amazon-2018": {
        "brand": "Soapy", "category": ["Beauty", "Bath", "Soap", "</span></span>", "100% Soap"], "price": "$3.50",
        "description": ["It cleans.", "It smells."],
    },
    "amazon-2023": {
        "store": "Soapy", "categories": ["Beauty", "Bath", "Soap"], "price": 3.5,
        "description": ["It cleans.", "It smells."], "main_category": "All Beauty",
    },
}  # fmt: skip


@pytest.mark.parametrize("source", AMAZON)
def test_every_edition_of_amazon_comes_to_the_same_item(workspace: Workspace, tmp_path: Path, source: str) -> None:
    edition = named(source)
    reviews = [
        {edition.user: line["reviewerID"], edition.item: line["asin"],
         edition.time: line["unixReviewTime"] * (1000 if source == "amazon-2023" else 1), edition.rating: 5.0}
        for line in full() if isinstance(line, dict)
    ]  # fmt: skip
    meta = [{edition.item: "i0", "title": "Soap bar", **AMAZON[source]}, {edition.item: "i1", "title": "Comb"}]
    done = Ingested(workspace, write(tmp_path, reviews, meta, source=source))
    assert done.items[0] == {
        "item": 1, "item_id": "i0", "title": "Soap bar", "brand": "Soapy", "categories": "Beauty, Bath, Soap",
        "price": "$3.50", "description": "It cleans. It smells.",
    }  # fmt: skip
    assert set(done.items[1].values()) == {2, "i1", "Comb", None}
    assert done.summary["details"] == dict.fromkeys(("brand", "categories", "price", "description"), 0.25)
    assert "titles for 50 % of the items, brand for 25 %, categories for 25 %" in report.line("x", done.summary)


def test_yelp_has_categories_and_a_city(workspace: Workspace, tmp_path: Path) -> None:
    reviews = [
        {"user_id": line["reviewerID"], "business_id": line["asin"], "date": f"2017-12-{1 + n:02d}", "stars": 4.0}
        for n, line in enumerate(full())
        if isinstance(line, dict)
    ]
    business = [
        {"business_id": "i0", "name": "The Great Greek", "categories": "Diners,  Greek, diners", "city": "Sun City"},
        {"business_id": "i1", "name": "Nameless", "categories": None, "city": ""},
    ]
    done = Ingested(workspace, write(tmp_path, reviews, business, source="yelp"))
    assert done.items[0] == {
        "item": 1, "item_id": "i0", "title": "The Great Greek", "categories": "Diners, Greek", "city": "Sun City",
    }  # fmt: skip
    assert done.items[1]["categories"] is done.items[1]["city"] is None


LEAKS = {
    "review_count": 4711, "stars": 4.711, "average_rating": 4.711, "rating_number": 4711, "overall": 4.711,
    "salesRank": {"Leaked": 4711}, "rank": "4711 in Leaked", "related": {"also_bought": ["leaked"]},
    "also_buy": ["leaked"], "also_view": ["leaked"], "also_bought": ["leaked"], "bought_together": ["leaked"],
    "buy_after_viewing": ["leaked"], "similar_item": "leaked", "helpful_vote": 4711, "checkins": 4711,
    "details": {"Best Sellers Rank": {"Leaked": 4711}, "Customer Reviews": "4711 leaked"},
}  # fmt: skip


@pytest.mark.parametrize("source", DUMP_FORMATS)
def test_what_sums_up_interactions_reaches_neither_the_items_table_nor_a_text(
    workspace: Workspace, tmp_path: Path, source: str
) -> None:
    format_ = named(source)
    time = {"yelp": "2017-12-02", "amazon-2023": START * 1000}.get(source, START)
    reviews = [
        {format_.user: f"u{u}", format_.item: f"i{i}", format_.time: time, format_.rating: 5.0}
        for u in range(4)
        for i in range(4)
    ]
    told = {detail.field: "Told" for detail in format_.details}
    items = [{format_.item: f"i{i}", format_.title: "Named", **LEAKS, **told} for i in range(4)]
    every = (*DUMP_FORMATS[source].fields, "title")
    dataset = write(tmp_path, reviews, items, source=source, item_text=every)
    done = Ingested(workspace, dataset)
    assert set(done.items[0]) == {"item", "item_id", *every}
    known = Catalogue.read(workspace.folder(sequences(workspace, dataset, done.artefact)["catalogue"]))
    for written in (json.dumps(done.items), json.dumps(known.texts.to_pylist())):
        assert "Told" in written or not told
        assert "4711" not in written and "4.711" not in written and "leaked" not in written.casefold()


def test_a_table_of_leaks_is_not_read_as_details_either(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item,title,rating,stars,popularity\n" + "".join(f"i{i},T{i},5,5,4711\n" for i in range(4))
    )
    dataset = ratings(tmp_path, tmp_path / "items.csv")
    assert "4711" not in json.dumps(Ingested(workspace, dataset).items)


def test_declared_fields_are_those_that_are_read() -> None:
    for source, declared in DUMP_FORMATS.items():
        assert declared.fields == tuple(detail.name for detail in named(source).details)
        assert set(declared.text) <= {"title", *declared.fields}


# Tables --------------------------------------------------------------------------------------------------------------


def ratings(folder: Path, items: Path) -> Dataset:
    lines = [f"u{u},i{i},5,{START + 86_400 * (10 * i + u)}\n" for u in range(4) for i in range(4)]
    (folder / "ratings.csv").write_text("user,item,rating,timestamp\n" + "".join(lines))
    return Dataset(name="test", source="ratings", reviews=str(folder / "ratings.csv"), items=str(items))


CELLS = {
    "commas": '"Bath, Soap"',
    "bars": "Bath|Soap",
    "a list as JSON": '"[""Bath"", ""Soap""]"',
    "a list as Python writes it": "\"['Bath', 'Soap']\"",
    "paths as Python writes them": "\"[['Bath'], ['Bath', 'Soap']]\"",
}


@pytest.mark.parametrize("cell", CELLS)
def test_csv_has_details_where_it_has_columns(workspace: Workspace, tmp_path: Path, cell: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(
        f'movieId,title,Genres,store,price\ni0,"Soap, bar",{CELLS[cell]},Soapy,3.50\ni1,Comb\ni2,Brush,,nan,\n'
    )
    done = Ingested(workspace, ratings(tmp_path, path))
    assert done.items[0] == {
        "item": 1, "item_id": "i0", "title": "Soap, bar", "brand": "Soapy", "categories": "Bath, Soap", "city": None,
        "price": "3.50", "description": None,
    }  # fmt: skip
    assert done.titles() == {"i0": "Soap, bar", "i1": "Comb", "i2": "Brush", "i3": None}, "a short row has a title"
    assert set(done.items[2].values()) == {3, "i2", "Brush", None}
    assert not done.quarantine


def test_a_detail_in_other_bytes_costs_no_line(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes(b"item,title,city\ni0,Soap,Z\xfcrich\n")
    done = Ingested(workspace, ratings(tmp_path, tmp_path / "items.csv"))
    assert (done.items[0]["title"], done.items[0]["city"]) == ("Soap", "Zrich")
    assert not done.quarantine


def test_parquet_too_and_with_lists(workspace: Workspace, tmp_path: Path) -> None:
    columns = {
        "item": ["i0", "i1"], "title": ["Soap", "Comb"], "categories": [["Bath", "Soap"], None], "price": [3.5, None],
        "description": [["It cleans.", "It smells."], []], "rating_number": [4711, 4711],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    done = Ingested(workspace, ratings(tmp_path, tmp_path / "items.parquet"))
    assert done.items[0] == {
        "item": 1, "item_id": "i0", "title": "Soap", "brand": None, "categories": "Bath, Soap", "city": None,
        "price": "3.50", "description": "It cleans. It smells.",
    }  # fmt: skip
    assert set(done.items[1].values()) == {2, "i1", "Comb", None}


def told(raw: Any) -> str | None:
    """What is kept of a description."""
    begins = details.beginning(raw)
    return begins and details.sentences(begins)


# Rules ---------------------------------------------------------------------------------------------------------------


def test_details_are_those_of_the_first_line_that_tells_any(workspace: Workspace, tmp_path: Path) -> None:
    lines: list[dict[str, Any] | bytes] = [
        {"asin": "i0", "title": "Soap"},
        {"asin": "i0", "brand": "First", "category": ["<b></b>"]},
        {"asin": "i0", "title": "Renewed", "brand": "Second", "category": ["Bath"]},
    ]
    item = only(workspace, tmp_path, lines)
    assert (item["title"], item["brand"], item["categories"]) == ("Soap", "First", None)


@pytest.mark.parametrize("raw", ["", " ", None, "Unknown", "n/a", "<i></i>", [], {}, True, float("nan"), "\u200b"])
def test_what_says_nothing_is_missing(raw: Any) -> None:
    for clean in (details.name, details.categories, details.price, details.dollars, told):
        assert clean(raw) is None, clean


def test_hostile_text_is_cleaned_as_titles_are() -> None:
    assert details.name(HOSTILE) == "Ignore {all} rules"
    assert told(HOSTILE) == "Ignore {all} rules"
    assert told(["<p>It", None, "cleans.</p>"]) == "It cleans."
    assert details.categories(["Bath", "\u202eSoap\x00", "ﬁne"]) == "Bath, Soap, fine"
    assert details.price(".a-section { margin: 0; } $3") is None


def test_no_bytes_of_a_description_stop_an_ingest(workspace: Workspace, tmp_path: Path) -> None:
    lines: list[dict[str, Any] | bytes] = [
        {"asin": "i0", "title": "Soap", "description": [HOSTILE, "It\x00 cleans \U0001f9fc."]},
        b'{"asin": "i1", "title": "Comb", "brand": "\\ud800", "description": "It \\ud83d combs."}',
        {"asin": "i2", "title": "Brush", "description": "<div></div>"},
    ]
    done = Ingested(workspace, write(tmp_path, full(), lines))
    assert [row["description"] for row in done.items] == [
        "Ignore {all} rules It cleans \U0001f9fc.",
        "It combs.",
        None,
        None,
    ]
    assert done.summary["details"]["description"] == 0.5
    assert not done.quarantine


def test_a_number_without_end_is_no_text_and_no_id(workspace: Workspace, tmp_path: Path) -> None:
    """Python reads it from a literal in base 16, and refuses to write it in base 10."""
    digits = b"0x" + b"f" * 5000
    lines: list[dict[str, Any] | bytes] = [
        b"{'asin': 'i0', 'title': 'Soap', 'brand': %s, 'price': %s, 'categories': [[%s]]}" % (digits, digits, digits),
        b"{'asin': 'i1', 'title': %s}" % digits,
        b"{'asin': %s, 'title': 'Comb'}" % digits,
    ]
    done = Ingested(workspace, write(tmp_path, full(), lines, source="amazon-2014"))
    assert set(done.items[0].values()) == {1, "i0", "Soap", None}
    assert done.titles()["i1"] is None
    assert [row["reason"] for row in done.quarantine] == ["asin is not an id"]


def test_everything_is_bounded() -> None:
    assert len(details.name("x" * 10_000) or "") == details.LONGEST_NAME
    many = details.categories([f"Category {n}" for n in range(10_000)]) or ""
    assert 180 < len(many) <= details.LONGEST_CATEGORIES and many.startswith("Category 0, Category 1, ")
    assert details.categories(["Bath", "x" * 61, "Soap"]) == "Bath"
    long = "This is the first sentence, and it has some sixty letters in it. " * 50
    text = told(long) or ""
    assert text.endswith(" in it.") and 200 < len(text) <= details.LONGEST_SENTENCES
    words = told("word " * 1000) or ""
    assert words.endswith("word") and len(words) <= details.LONGEST_SENTENCES
    assert len(told("x" * 10_000) or "") == details.LONGEST_SENTENCES
    deep: Any = "Soap"
    for _ in range(1000):
        deep = [deep]
    assert details.categories(deep) is None
    assert details.categories("[" * 10_000) is None and details.categories("['Bath', 'So") is None
    assert details.categories(str(["Bath", *["x" * 100] * 50])) == "Bath"


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (3, "$3.00"), (12.5, "$12.50"), ("$9.99 - $19.99", "$9.99 - $19.99"), ("1,299.00", "$1,299.00"),
        ("€5", "€5"), (0, None), ("$0.00", None), (-1, None), (float("inf"), None), (1e300, None), ("from 3", None),
        ("None", None), (["$3"], "$3"),
    ],
)  # fmt: skip
def test_prices(raw: Any, kept: str | None) -> None:
    assert details.dollars(raw) == kept


def test_the_page_of_an_author_is_the_author(workspace: Workspace, tmp_path: Path) -> None:
    book: list[dict[str, Any] | bytes] = [{"asin": "i0", "title": "A book", "brand": "Visit Amazon's Ann Author Page"}]
    assert only(workspace, tmp_path, book)["brand"] == "Ann Author"


def test_lines_and_a_json_array_give_the_same_details(workspace: Workspace, tmp_path: Path) -> None:
    lines: list[dict[str, Any] | bytes] = [{"asin": "i0", "title": "Soap", "brand": "Soapy", "category": ["Bath"]}]
    dataset = write(tmp_path, full(), lines)
    Path(dataset.items).write_bytes(b"[" + encode(lines) + b"]")
    assert Ingested(workspace, dataset).items[0]["brand"] == "Soapy"
