"""Each format, each kind of file, and what a wrong one is told."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from small_dumps import START, Ingested, encode, full, leftovers, titles, write

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import dumps, ingest
from llmser_tasks.ingest.formats import amazon_2014
from llmser_tasks.ingest.source import Unusable

YELP = [
    {"user_id": f"u{u}", "business_id": f"b{b}", "date": f"2017-12-{b + 1:02d} 18:54:{u:02d}", "stars": 4.0}
    for u in range(4)
    for b in range(4)
]
BUSINESSES = [{"business_id": f"b{b}", "name": f"Caf\u00e9 {b}"} for b in range(4)]


def test_amazon_2014_reads_items_that_are_python_literals_or_json(workspace: Workspace, tmp_path: Path) -> None:
    meta = [repr(line | {"price": 3.5, "u": None}).encode() for line in titles(3)]
    meta.append(b"{u'asin': u'i3', 'title': \"It's \\xe9\", 'related': {'also_bought': ['a', 'b']}}")
    done = Ingested(workspace, write(tmp_path, full(), meta, source="amazon-2014"))
    assert done.titles() == {"i0": "Title 0", "i1": "Title 1", "i2": "Title 2", "i3": "It's \u00e9"}
    mixed = Ingested(workspace, write(tmp_path, full(), [*meta[:2], *titles()[2:]], source="amazon-2014"))
    assert mixed.titles()["i3"] == "Title 3"


@pytest.mark.parametrize(
    "hostile",
    [
        b"__import__('os').system('touch /tmp/owned')",
        b"{'asin': (lambda: 1)()}",
        b"[" * 100_000,
        b"-" * 100_000 + b"1",
        b"1+" * 100_000 + b"1",
        b"9" * 100_000,
        b"'" + b"x" * (2 << 20) + b"'",
        b"\xff",
        b"\x00",
    ],
)
def test_a_hostile_literal_is_only_unusable(hostile: bytes) -> None:
    with pytest.raises(Unusable):
        amazon_2014.literal_or_json(hostile)


def test_amazon_2023_counts_parents_in_milliseconds(workspace: Workspace, tmp_path: Path) -> None:
    reviews = [
        {"user_id": f"u{u}", "asin": f"variant{u}", "parent_asin": f"i{i}", "timestamp": (START + i) * 1000 + 7}
        for u in range(4)
        for i in range(4)
    ]
    meta = [{"parent_asin": f"i{i}", "title": f"Title {i}"} for i in range(4)]
    done = Ingested(workspace, write(tmp_path, reviews, meta, source="amazon-2023"))
    assert done.bought("u0") == ["i0", "i1", "i2", "i3"]
    assert done.interactions[0]["timestamp"] == START * 1000 + 7


def test_yelp_dates_are_utc_and_missing_stars_pass(workspace: Workspace, tmp_path: Path) -> None:
    reviews = [dict(line) for line in YELP]
    del reviews[0]["stars"]
    reviews[1]["date"] = "2017-12-02"
    done = Ingested(workspace, write(tmp_path, reviews, BUSINESSES, source="yelp"))
    assert done.interactions[0]["timestamp"] == 1512154440000  # 2017-12-01 18:54:00
    assert done.interactions[0]["rating"] is None
    assert done.interactions[1]["timestamp"] == 1512172800000  # 2017-12-02 00:00:00
    assert done.titles()["b0"] == "Caf\u00e9 0"


def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


MEMBERS = {
    "Dataset_User_Agreement.pdf": b"%PDF",
    "./._yelp_academic_dataset_review.json": b"resource fork",
    "yelp_academic_dataset_business.json": encode(BUSINESSES),
    "../../yelp_academic_dataset_review.json": encode([*YELP, b"broken"]),
}


@pytest.mark.parametrize(("name", "mode"), [("yelp.tar", "w"), ("yelp.tgz", "w:gz")])
@pytest.mark.parametrize("both", [True, False])
def test_yelps_tar_is_read_without_being_unpacked(
    workspace: Workspace, tmp_path: Path, name: str, mode: str, both: bool
) -> None:
    path = str(pack(tmp_path / name, MEMBERS, mode))
    dataset = Dataset(name="test", source="yelp", reviews=path, items=path if both else "")
    done = Ingested(workspace, dataset)
    assert len(done.interactions) == 16
    assert done.titles()["b3"] == "Caf\u00e9 3"
    assert done.quarantine[0]["file"] == f"{name}/yelp_academic_dataset_review.json"
    assert not list(tmp_path.rglob("*_review.json"))


def test_a_tar_without_the_file_says_what_it_holds(workspace: Workspace, tmp_path: Path) -> None:
    path = str(pack(tmp_path / "yelp.tar", {"photos.json": b"{}"}))
    with pytest.raises(InputError, match=r"holds no file whose name ends in review\.json; it holds: photos\.json"):
        ingest(workspace, Dataset(name="test", source="yelp", reviews=path))
    with pytest.raises(InputError, match="only Yelp's dumps come in"):
        ingest(workspace, Dataset(name="test", source="amazon-2018", reviews=path, items=path))


def test_gzip_of_several_members_and_any_name(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    data = encode(full())
    Path(dataset.reviews).write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))  # named .json all the same
    assert len(Ingested(workspace, dataset).interactions) == 16


def test_a_byte_order_mark_and_dos_line_ends(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    Path(dataset.reviews).write_bytes(b"\xef\xbb\xbf" + encode(full()).replace(b"\n", b"\r\n"))
    assert len(Ingested(workspace, dataset).interactions) == 16


def test_the_last_line_needs_no_line_feed(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    Path(dataset.reviews).write_bytes(encode(full())[:-1])
    done = Ingested(workspace, dataset)
    assert done.report["lines"]["reviews"]["read"] == len(done.interactions) == 16


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1000])
def test_lines_do_not_depend_on_blocks(block: int) -> None:
    data = b"one\n\ntwo two\r\n" + b"x" * 50 + b"\nend"
    lines = [line for lines in dumps.split(io.BytesIO(data), block, longest=50) for line in lines]
    assert lines == [b"one", b"", b"two two\r", b"x" * 50, b"end"]
    with_feed = [line for lines in dumps.split(io.BytesIO(data + b"\n"), block, longest=50) for line in lines]
    assert with_feed == lines


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
def test_a_line_that_is_too_long_costs_no_memory_and_only_itself(block: int, end: bytes) -> None:
    data = b"first\n" + b"x" * 5000 + end
    lines = [line for lines in dumps.split(io.BytesIO(data), block, longest=50) for line in lines]
    assert lines[0] == b"first"
    assert lines[1].endswith(dumps.TOO_LONG)
    assert len(lines[1]) <= 200 + len(dumps.TOO_LONG)
    assert lines[2:] == ([b"next"] if b"next" in end else [])


def test_a_line_that_is_too_long_is_quarantined(workspace: Workspace, tmp_path: Path) -> None:
    huge = b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": 1400000000, "x": "' + b"x" * (17 << 20) + b'"}'
    done = Ingested(workspace, write(tmp_path, [huge, *full()], zipped=True))
    assert [(row["line"], row["reason"]) for row in done.quarantine] == [(1, "longer than 16 MiB")]


WRONG = {
    "yelp as amazon": (YELP, BUSINESSES, "amazon-2018", "It looks like yelp: set source to that."),
    "amazon as yelp": (full(), titles(), "yelp", "It looks like amazon-2014 or amazon-2018: set source to that."),
    "exchanged": (titles(), full(), "amazon-2018", "are reviews and items exchanged?"),
    "something else": ([{"movie": 1, "stars": 3}] * 3, titles(), "yelp", "have the fields movie, stars, which is none"),
    "no JSON": ([b"users, items", b"1,2,3"], titles(), "yelp", "are no JSON objects (one begins with 'users, items"),
    "a JSON array": ([b"[", b'{"a": 1},', b"]"], titles(), "yelp", "have the fields a, which is none"),
    "values": ([{"user_id": 1, "business_id": 2, "date": 3}], titles(), "yelp", "Its fields are right but"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_format_is_said_with_what_to_do(workspace: Workspace, tmp_path: Path, case: str) -> None:
    reviews, items, source, advice = WRONG[case]
    with pytest.raises(InputError) as error:
        ingest(workspace, write(tmp_path, reviews, items, source=source))
    assert f"reviews.json is a review of {source} with " in str(error.value)
    assert advice in str(error.value)
    assert not leftovers(workspace)


def test_a_wrong_item_dump_is_said_too(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"items\.json is an item of amazon-2018 with asin, title.*yelp"):
        ingest(workspace, write(tmp_path, full(), BUSINESSES))


def test_python_literals_under_2018_point_to_2014(workspace: Workspace, tmp_path: Path) -> None:
    meta = [repr(line).encode() for line in titles()]
    with pytest.raises(InputError, match=r"not JSON.*looks like amazon-2014"):
        ingest(workspace, write(tmp_path, full(), meta))


def test_a_hopeless_dump_is_given_up_early(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, [{"a": "x" * 200}] * 30_000)
    with pytest.raises(InputError, match=r"of the 1\d,\d{3} read"):
        ingest(workspace, dataset)
