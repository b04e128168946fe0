"""Records laid out as lines, JSON array, CSV or Parquet come to the same; what cannot be told is asked for."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dumps import START, Ingested, encode, full, leftovers, titles, write

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import silent
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import arrays, dumps, ingest, reading
from llmser_tasks.ingest.dumps import Dump
from llmser_tasks.ingest.sources import named

RATINGS = [(f"u{u}", f"i{i}", 5.0, START + 86_400 * (10 * i + u)) for u in range(4) for i in range(4)]
SHAPED = [(f"A{u}00KLMNOPQRS", f"B00000000{i}", 5.0, START + 86_400 * (10 * i + u)) for u in range(4) for i in range(4)]


def save(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def table(rows: list, names: str = "", delimiter: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([names.split(",")] * bool(names) + [list(row) for row in rows])
    return text.getvalue().encode()


def dataset(folder: Path, reviews: bytes, items: bytes | None = None, source: str = "ratings") -> Dataset:
    meta = encode([{"item": f"i{i}", "title": f"Title {i}"} for i in range(4)]) if items is None else items
    return Dataset(
        name="test",
        source=source,
        reviews=save(folder / "reviews", reviews),
        items=save(folder / "items", meta),
    )


def parquet(columns: dict) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def rows_of(done: Ingested) -> list[tuple]:
    return [(row["user"], row["item"], row["timestamp"], row["rating"]) for row in done.interactions]


@pytest.fixture
def expected(tmp_path: Path) -> list[tuple]:
    return rows_of(Ingested(Workspace(tmp_path / "as lines"), write(tmp_path / "lines", full())))


COLUMNS = dict(zip(("user", "item", "rating", "timestamp"), map(list, zip(*RATINGS, strict=True)), strict=True))
LAYOUTS = {
    "csv with a header": table(RATINGS, "user,item,rating,timestamp"),
    "csv without one": table(RATINGS),
    "other names": table(RATINGS, "userId,movieId,rating,timestamp"),
    "RecBole's": table(RATINGS, "user_id:token,item_id:token,rating:float,timestamp:float", "\t"),
    "semicolons": table(RATINGS, "User,Item,Stars,Time", ";"),
    "another order": table([row[::-1] for row in RATINGS], "timestamp,rating,item,user"),
    "more columns": table([(*row, "a, b\n\"c\"") for row in RATINGS], "user,item,rating,timestamp,text"),
    "milliseconds": table([(*row[:3], row[3] * 1000) for row in RATINGS], "user,item,rating,timestamp"),
    "decimals": table([(*row[:3], float(row[3])) for row in RATINGS], "user,item,rating,timestamp"),
    "dates": table(
        [(*row[:3], datetime.fromtimestamp(row[3], UTC).isoformat()) for row in RATINGS], "user_id,item,rating,date"
    ),
    "a mark and dos line ends": b"\xef\xbb\xbf" + table(RATINGS, "user,item,rating,timestamp"),
    "parquet": parquet(COLUMNS),
    "parquet with times": parquet(COLUMNS | {"timestamp": [datetime.fromtimestamp(row[3], UTC) for row in RATINGS]}),
    "parquet with naive times": parquet(
        COLUMNS | {"timestamp": pa.array([row[3] * 10**6 for row in RATINGS], pa.timestamp("us"))}
    ),
    "parquet with codes": parquet(COLUMNS | {"item": pa.array(COLUMNS["item"]).dictionary_encode()}),
    "an array": json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in RATINGS]).encode(),
    "an indented array": json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in RATINGS], indent=2).encode(),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(
    workspace: Workspace, tmp_path: Path, expected: list[tuple], layout: str
) -> None:
    done = Ingested(workspace, dataset(tmp_path, LAYOUTS[layout]))
    assert rows_of(done) == expected
    assert done.titles() == {f"i{i}": f"Title {i}" for i in range(4)}
    assert done.report["lines"]["reviews"]["read"] == 16


ITEMS = {
    "csv": table([(f"i{i}", f"Title {i}") for i in range(4)], "item_id,title"),
    "csv, other names": table([(f"Title {i}", f"i{i}") for i in range(4)], "name,asin"),
    "parquet": parquet({"item": [f"i{i}" for i in range(4)], "title": [f"Title {i}" for i in range(4)]}),
    "array": json.dumps([{"item": f"i{i}", "title": f"Title {i}"} for i in range(4)]).encode(),
}


@pytest.mark.parametrize("layout", ITEMS)
def test_item_dumps_too(workspace: Workspace, tmp_path: Path, layout: str) -> None:
    done = Ingested(workspace, dataset(tmp_path, table(RATINGS), ITEMS[layout]))
    assert done.titles() == {f"i{i}": f"Title {i}" for i in range(4)}


def test_amazons_ratings_without_a_header_have_their_editions_order(workspace: Workspace, tmp_path: Path) -> None:
    meta = encode([{"asin": f"B00000000{i}", "title": f"Title {i}"} for i in range(4)])
    first = Ingested(workspace, dataset(tmp_path / "2014", table(SHAPED), meta, "amazon-2014"))
    second = Ingested(
        workspace, dataset(tmp_path / "2018", table([(i, u, *r) for u, i, *r in SHAPED]), meta, "amazon-2018")
    )
    assert rows_of(first) == rows_of(second) and first.bought("A000KLMNOPQRS") == [f"B00000000{i}" for i in range(4)]


@pytest.mark.parametrize(("wrong", "swapped"), [("amazon-2018", False), ("amazon-2014", True), ("ratings", True)])
def test_an_order_that_is_not_the_sources_is_never_taken_silently(
    workspace: Workspace, tmp_path: Path, wrong: str, swapped: bool
) -> None:
    rows = [(i, u, *r) for u, i, *r in SHAPED] if swapped else SHAPED
    meta = encode([{"asin": f"B00000000{i}", "title": f"Title {i}"} for i in range(4)])
    with pytest.raises(InputError, match=r"has no column names.*where the users should be are items.*set source"):
        ingest(workspace, dataset(tmp_path, table(rows), meta, wrong))
    assert not leftovers(workspace)


TOLD = {
    "no names, unknown": (
        table(RATINGS),
        "yelp",
        "columns have no names.*put one line.*user_id,business_id,stars,date",
    ),
    "three columns": (table([row[:2] + row[3:] for row in RATINGS]), "ratings", "columns have no names"),
    "two might be it": (
        table(RATINGS, "user,item,product_id,time"),
        "yelp",
        "item and product_id may both be the item",
    ),
    "none is it": (table(RATINGS, "user,item,rating,when"), "ratings", r"no column is the time \(timestamp\).*when"),
    "parquet, none is it": (parquet({"a": [1], "user": [2], "item": [1]}), "ratings", "no column is the time.*a, user"),
    "parquet, damaged": (parquet(COLUMNS)[:-9] + b"PAR1", "ratings", "is cut off or damaged"),
    "an array without end": (b'[{"user": "u"', "ratings", "is cut off or damaged.*the array has no end"),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_cannot_be_told_is_said(workspace: Workspace, tmp_path: Path, case: str) -> None:
    reviews, source, sentence = TOLD[case]
    with pytest.raises(InputError, match=sentence):
        ingest(workspace, dataset(tmp_path, reviews, source=source))
    assert not leftovers(workspace)


def test_rows_that_cannot_be_used_are_quarantined_and_empty_ratings_pass(workspace: Workspace, tmp_path: Path) -> None:
    bad = b"u0,i0\nu0,,5,1400000000\nu\xe90,i0,5,1400000000\nu0,i0,good,1400000000\n\nu9,i0,,1400000000\n"
    done = Ingested(workspace, dataset(tmp_path, table(RATINGS, "user,item,rating,timestamp") + bad))
    assert [(row["line"], row["reason"]) for row in done.quarantine] == [
        (18, "fewer than 4 columns"),
        (19, "item is missing"),
        (20, "not UTF-8"),
        (21, "rating is not a number"),
    ]
    lines = done.report["lines"]["reviews"]
    assert (lines["read"], lines["filtered"]["blank"], lines["filtered"]["user_core"]) == (22, 1, 1)


@pytest.mark.parametrize("block", [1, 2, 7, 64, 4096])
def test_elements_of_an_array_do_not_depend_on_blocks(block: int) -> None:
    data = b'\xef\xbb\xbf [ {"a": "]}\\"{,"}, 7,{"b": [1, {"c": "\\\\"}]} , [2],\n{}\n] \n'
    found = [element for part in arrays.elements(io.BytesIO(data), block) for element in part]
    assert found == [b'{"a": "]}\\"{,"}', b"7", b'{"b": [1, {"c": "\\\\"}]}', b"[2]", b"{}"]


@pytest.mark.parametrize("data", [b"[", b"[{}", b"[{},", b'[{"a', b"[{}] x", b'[{"a": ' + b"x" * 5000 + b"}]"])
def test_an_array_that_does_not_end_well_is_broken_off(data: bytes) -> None:
    with pytest.raises(dumps.BrokenOff):
        list(arrays.elements(io.BytesIO(data), 64, longest=1000))


@pytest.mark.parametrize("layout", ["array", "parquet"])
def test_memory_does_not_grow_with_arrays_and_tables(tmp_path: Path, layout: str) -> None:
    def read(name: str, rows: int) -> int:
        path = tmp_path / name
        if layout == "array":
            line = (
                '{"reviewerID": "user%09d", "asin": "item%09d", "unixReviewTime": 1400000000, "x": "' + "y" * 300 + '"}'
            )
            with path.open("w", encoding="utf-8") as file:
                file.write("[" + line % (0, 0))
                file.writelines("," + line % (n, n) for n in range(1, rows))
                file.write("]")
        else:
            schema = pa.schema([("reviewerID", pa.string()), ("asin", pa.string()), ("unixReviewTime", pa.int64())])
            with pq.ParquetWriter(path, schema) as writer:
                for start in range(0, rows, 10_000):
                    numbers = range(start, start + 10_000)
                    columns = [
                        [f"user{n:09d}" for n in numbers],
                        [f"item{n:09d}" for n in numbers],
                        [1400000000] * 10_000,
                    ]
                    writer.write_batch(pa.record_batch([pa.array(column) for column in columns], schema=schema))
        with (
            reading.Table(tmp_path / "rows", reading.REVIEWS) as table_,
            reading.Table(tmp_path / "bad", reading.QUARANTINE) as bad,
        ):
            assert reading.read_reviews([Dump(path)], named("amazon-2018"), table_, bad, silent).rows == rows
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    read("warm", 70_000)
    before = read("small", 70_000)
    assert read("large", 210_000) - before < 30 << 10  # KiB


def test_an_array_may_be_in_the_inbox_of_lines(tmp_path: Path) -> None:
    """Each file says for itself how it is laid out."""
    dataset_ = write(tmp_path, full(3), titles())
    inbox = tmp_path / "inbox" / "test"
    late = [line for line in full() if isinstance(line, dict) and line["reviewerID"] == "u3"]
    save(inbox / "late.json", json.dumps(late).encode())

    os.utime(inbox / "late.json", (1e9, 1e9))
    workspace = Workspace(tmp_path / "artefacts")
    made = ingest(workspace, dataset_, inbox=str(tmp_path / "inbox"))
    assert workspace.summary(made)["after"]["users"] == 4
