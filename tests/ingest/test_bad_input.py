"""Each thing that can be wrong with a dump or the disk, and the sentence that says so."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from small_dumps import START, Ingested, encode, full, leftovers, review, titles, write

from llmser_tasks.core import environment
from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError, LlmserError, StorageError
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import filtering, ingest, writing


def sentence(workspace: Workspace, dataset: Dataset, kind: type[LlmserError] = InputError) -> str:
    """The message of a failed ingest, which must have left nothing behind."""
    with pytest.raises(kind) as error:
        ingest(workspace, dataset)
    assert not leftovers(workspace)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full(), reviews=str(tmp_path / "nowhere.json.gz"))
    assert sentence(workspace, dataset) == (
        f"The review dump {tmp_path}/nowhere.json.gz does not exist; check the path."
    )


def test_what_is_no_path(workspace: Workspace, tmp_path: Path) -> None:
    assert "Setting reviews: '~nobody-here/x' is no path; check it." in sentence(
        workspace, write(tmp_path, full(), reviews="~nobody-here/x")
    )
    assert "Setting reviews: 'a\\x00b' is no path; check it." in sentence(
        workspace, write(tmp_path, full(), reviews="a\0b")
    )
    assert "File name too long" in sentence(workspace, write(tmp_path, full(), reviews="x" * 5000))


def test_missing_settings(workspace: Workspace, tmp_path: Path) -> None:
    missing = sentence(workspace, Dataset(name="test"))
    assert "names no review dump; set reviews" in missing and "llmser sample" not in missing
    assert "names no item dump, which has the titles; set items" in sentence(
        workspace, write(tmp_path, full(), items="")
    )
    assert "names no item dump" in sentence(workspace, write(tmp_path, full(), items="", source="yelp"))


@pytest.mark.parametrize("name", ["sample", "sample-amazon", "sample-yelp"])
def test_a_sample_that_nobody_has_written_yet(workspace: Workspace, name: str) -> None:
    dataset = environment.configuration({"dataset": name}).dataset
    assert sentence(workspace, dataset) == (
        f"Dataset {name} names no review dump; set reviews to its path, or let"
        f" `llmser sample --source {dataset.source}` write synthetic dumps and pass"
        " what it prints (--reviews, --items)."
    )


def test_folder(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full()).model_copy(update={"items": str(tmp_path)})
    assert sentence(workspace, dataset) == f"The item dump {tmp_path} is a folder; give the file inside it."


def test_not_a_regular_file(workspace: Workspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    dataset = write(tmp_path, full(), reviews=str(tmp_path / "pipe"))
    assert "is not a regular file" in sentence(workspace, dataset)


def test_empty_file(workspace: Workspace, tmp_path: Path) -> None:
    assert "reviews.json is empty (0 bytes); fetch it again." in sentence(workspace, write(tmp_path, []))


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_but_blank_lines(workspace: Workspace, tmp_path: Path, zipped: bool) -> None:
    assert "has no line with anything in it" in sentence(workspace, write(tmp_path, [b"", b" "], zipped=zipped))


def test_empty_gzip(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    Path(dataset.reviews).write_bytes(gzip.compress(b""))
    assert "has no line with anything in it" in sentence(workspace, dataset)


def test_truncated_gzip(workspace: Workspace, tmp_path: Path) -> None:
    lines = [review(f"u{n}", f"i{n % 7}", n, noise=os.urandom(20).hex()) for n in range(30_000)]
    dataset = write(tmp_path, lines, zipped=True)
    path = Path(dataset.reviews)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    message = sentence(workspace, dataset)
    assert f"{path} is cut off or damaged: it can be read up to line " in message
    assert f"of {len(whole) * 2 // 3:,} bytes" in message
    reached = int(message.split("up to line ")[1].split(", ")[0].replace(",", ""))
    assert 10_000 < reached < 20_001


def test_damaged_gzip(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full(50, 4), zipped=True)
    path = Path(dataset.reviews)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert "is cut off or damaged" in sentence(workspace, dataset)


def test_truncated_tar(workspace: Workspace, tmp_path: Path) -> None:
    import io
    import tarfile

    data = encode([{"user_id": "u", "business_id": "b", "date": "2017-12-02"}] * 1000)
    with tarfile.open(tmp_path / "yelp.tar", "w") as archive:
        entry = tarfile.TarInfo("yelp_academic_dataset_review.json")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    path = tmp_path / "yelp.tar"
    path.write_bytes(path.read_bytes()[:20_000])
    assert "is cut off or damaged" in sentence(workspace, Dataset(name="test", source="yelp", reviews=str(path)))


def test_other_archives(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    Path(dataset.reviews).write_bytes(b"PK\x03\x04rest")
    assert "is a zip archive; unpack it" in sentence(workspace, dataset)


def test_only_garbage(workspace: Workspace, tmp_path: Path) -> None:
    assert "(of the 3 read: 3 × not JSON)" in sentence(workspace, write(tmp_path, [b"a", b"b", b"c"]))


def test_no_titles_at_all(workspace: Workspace, tmp_path: Path) -> None:
    untitled = [{"asin": f"i{i}", "title": "<br>"} for i in range(4)]
    message = sentence(workspace, write(tmp_path, full(), untitled))
    assert "None of the 4 items left has a title" in message
    assert "the LLM steps need titles" in message
    other = [{"asin": f"other{i}", "title": "Title"} for i in range(4)]
    assert "check that it is the item dump of reviews.json" in sentence(workspace, write(tmp_path, full(), other))


def test_one_user(workspace: Workspace, tmp_path: Path) -> None:
    message = sentence(workspace, write(tmp_path, full(users=1)))
    assert message == (
        "Nothing is left of dataset test (1 users, 4 items): 4 lines → 4 usable → 4 without duplicates → 4 after "
        "rating → 4 after user_core ≥ 3 → 0 after item_core ≥ 3 → 0 after min_length ≥ 3; "
        "lower item_core or take a larger dump."
    )


def test_every_user_below_the_filter(workspace: Workspace, tmp_path: Path) -> None:
    message = sentence(workspace, write(tmp_path, full(), user_core=5, item_core=1))
    assert "16 after rating → 0 after user_core ≥ 5" in message
    assert message.endswith("lower user_core or take a larger dump.")
    message = sentence(workspace, write(tmp_path, full(items=2), user_core=1, item_core=1))
    assert message.endswith("every user is shorter than min_length: lower the cores or take a larger dump.")


def test_no_positive_rating(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, [line | {"overall": 0} for line in full()])
    assert sentence(workspace, dataset).endswith("no rating is above 0: check that it is the review dump.")


def test_a_dump_that_changes_meanwhile(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())

    def append(done: int, total: int | None, unit: str, note: str = "") -> None:
        if "item lines" in note:
            with Path(dataset.reviews).open("ab") as file:
                file.write(encode(full()))

    with pytest.raises(InputError, match="was changed while it was read; rerun once it is complete"):
        ingest(workspace, dataset, append)
    assert not leftovers(workspace)


def test_a_full_disk_while_reading(workspace: Workspace, tmp_path: Path) -> None:
    """The kernel refuses files over 100 kB, as a full disk refuses any."""
    lines = [review(f"u{n % 3000}", f"i{n % 7}", n, noise=n) for n in range(20_000)]
    dataset = write(tmp_path, lines, titles(7))
    message = in_subprocess(workspace, dataset, limit=100_000)
    assert message.startswith("StorageError: ")
    assert "nothing half-written is used" in message
    assert not leftovers(workspace)
    assert len(Ingested(workspace, dataset).users) == 3000


def test_a_full_disk_while_sorting(workspace: Workspace, tmp_path: Path) -> None:
    """The rows still fit, DuckDB's tables do not."""
    lines = [review(f"u{n % 3000}", f"i{n % 7}", n, noise=n) for n in range(20_000)]
    message = in_subprocess(workspace, write(tmp_path, lines, titles(7)), limit=400_000)
    assert message.startswith("StorageError: DuckDB cannot sort")
    assert "nothing half-written is used" in message
    assert not leftovers(workspace)


@pytest.mark.parametrize("kind", [duckdb.FatalException, duckdb.OutOfMemoryException])
def test_duckdbs_own_errors_are_storage_errors(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[duckdb.Error]
) -> None:
    def fail(*_: object) -> None:
        raise kind("Some Error: disk is gone")

    monkeypatch.setattr(writing, "write", fail)
    assert ": disk is gone; free space there" in sentence(workspace, write(tmp_path, full()), StorageError)


RUN = """
import resource, sys
from pathlib import Path
from llmser_tasks.core import environment
from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import LlmserError
from llmser_tasks.ingest import ingest
from llmser_tasks.core.workspace import Workspace
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    ingest(Workspace(Path(sys.argv[1])), Dataset.model_validate_json(sys.argv[2]))
except LlmserError as error:
    print(f"{type(error).__name__}: {error}")
"""


def in_subprocess(workspace: Workspace, dataset: Dataset, limit: int = 0) -> str:
    command = [sys.executable, "-c", RUN, str(workspace.root), dataset.model_dump_json(), str(limit)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


KILLED = (
    """
import os, signal
from llmser_tasks.ingest import %s as module
real = module.%s
def die(*arguments):
    real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
module.%s = die
"""
    + RUN
)


@pytest.mark.parametrize(
    ("module", "function"),
    [("reading", "read_reviews"), ("filtering", "select"), ("writing", "write")],
)
def test_killed_in_the_middle_the_next_run_completes_with_nothing_doubled(
    workspace: Workspace, tmp_path: Path, module: str, function: str
) -> None:
    dataset = write(tmp_path, full(40, 10), titles(10))
    command = [sys.executable, "-c", KILLED % (module, function, function), str(workspace.root)]
    killed = subprocess.run([*command, dataset.model_dump_json(), "0"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert leftovers(workspace)
    assert not list(workspace.root.rglob("manifest.json"))
    after = Ingested(workspace, dataset)
    fresh = Ingested(Workspace(tmp_path / "fresh"), dataset)
    assert after.artefact.content == fresh.artefact.content
    assert after.report == fresh.report
    assert len(after.interactions) == 400
    assert list(after.folder.parent.iterdir()) == [after.folder], "something stayed beside the artefact"


def test_memory_does_not_grow_with_the_dump(tmp_path: Path) -> None:
    """Three times the lines, read in the same memory: what grows is on disk."""
    from llmser_tasks.core.progress import silent
    from llmser_tasks.ingest import reading
    from llmser_tasks.ingest.dumps import Dump
    from llmser_tasks.ingest.sources import named

    def read(name: str, lines: int) -> int:
        path = tmp_path / name
        line = json.dumps(review("user%09d", "item%09d", 1)) + "\n"
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.writelines(line % (n, n) for n in range(lines))
        with (
            reading.Table(tmp_path / "rows", reading.REVIEWS) as rows,
            reading.Table(tmp_path / "bad", reading.QUARANTINE) as bad,
        ):
            reading.read_reviews([Dump(path)], named("amazon-2018"), rows, bad, silent)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    read("warm.gz", 70_000)
    before = read("small.gz", 70_000)
    assert read("large.gz", 210_000) - before < 30 << 10  # KiB


def test_duckdb_stays_within_its_share_and_folder(tmp_path: Path) -> None:
    with filtering.database(tmp_path) as connection:
        limit, spill = connection.execute(
            "select current_setting('memory_limit'), current_setting('temp_directory')"
        ).fetchone() or ("", "")
    assert limit.endswith("MiB")
    assert spill == str(tmp_path / "spill")


NO_DUMPS = {
    "zip": (b"PK\x03\x04rest", "is a zip archive; unpack it"),
    "bzip2": (b"BZh91AY", "is compressed with bzip2; unpack it"),
    "xz": (b"\xfd7zXZ\x00", "is compressed with xz; unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfdx", "is compressed with Zstandard; unpack it"),
    "pickle": (b"\x80\x04\x95rest", "is a pickle, which is never opened"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html>", "is a web page.*fetch it again"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "is a web page or an error message"),
    "utf-16": ("\ufeff" + '{"reviewerID": "u0"}\n' * 9, "is in UTF-16; convert it: iconv"),
    "utf-16 without its mark": ('{"reviewerID": "u0"}\n' * 9, "is in UTF-16LE; convert it: iconv"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", NO_DUMPS)
def test_what_is_no_dump_is_named_with_what_to_do(
    workspace: Workspace, tmp_path: Path, kind: str, zipped: bool
) -> None:
    data, said = NO_DUMPS[kind]
    data = data.encode("utf-16-le") if isinstance(data, str) else data
    dataset = write(tmp_path, full())
    Path(dataset.reviews).write_bytes(gzip.compress(data) if zipped else data)
    message = sentence(workspace, dataset)
    assert re.search(said, message) and "reviews.json" in message


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/x.json.gz", "https://u:secret@host/x", "s3:/secret/x"])
@pytest.mark.parametrize("which", ["reviews", "items"])
def test_an_address_is_no_path_and_is_not_repeated(
    workspace: Workspace, tmp_path: Path, address: str, which: str
) -> None:
    message = sentence(workspace, write(tmp_path, full(), **{which: address}))
    assert re.search(r"dump is given as an address \((s3|https)://…\).*download it first", message)
    assert "secret" not in message


def test_milliseconds_under_seconds_and_the_other_way_round(workspace: Workspace, tmp_path: Path) -> None:
    lines = [line | {"unixReviewTime": line["unixReviewTime"] * 1000} for line in full()]
    assert "unixReviewTime holds milliseconds, where amazon-2018 has seconds: divide it" in sentence(
        workspace, write(tmp_path, lines)
    )
    lines = [
        {"user_id": f"u{u}", "parent_asin": f"i{i}", "timestamp": 1_400_000_000} for u in range(4) for i in range(4)
    ]
    meta = [{"parent_asin": f"i{i}", "title": "x"} for i in range(4)]
    assert "timestamp holds seconds, where amazon-2023 has milliseconds" in sentence(
        workspace, write(tmp_path, lines, meta, source="amazon-2023")
    )


def test_cp1252_is_named(workspace: Workspace, tmp_path: Path) -> None:
    name = "Café – 5”".encode("cp1252")
    lines = [
        b'{"reviewerID": "u%d", "asin": "i%d", "unixReviewTime": 1400000000, "x": "%s"}' % (u, i, name)
        for u in range(4)
        for i in range(4)
    ]
    assert "It is in cp1252 or Latin-1; convert it: iconv" in sentence(workspace, write(tmp_path, lines))
    done = Ingested(workspace, write(tmp_path, [*full(), lines[0]]))
    assert [row["reason"] for row in done.quarantine] == ["not UTF-8 but cp1252 or Latin-1"]


def test_the_advice_looks_at_whole_lines_and_at_what_is_not_quite_json(workspace: Workspace, tmp_path: Path) -> None:
    long = [{"text": "x" * 5000, "user_id": f"u{n}", "business_id": "b", "date": "2017-12-02"} for n in range(4)]
    assert "It looks like yelp: set source to that." in sentence(workspace, write(tmp_path, long))
    nan = [{"user_id": f"u{n}", "business_id": "b", "date": "2017-12-02", "stars": float("nan")} for n in range(4)]
    assert "It looks like yelp: set source to that." in sentence(workspace, write(tmp_path, nan))
    infinite = [line | {"unixReviewTime": float("inf")} for line in full()]
    assert "Its fields are right but their values are not" in sentence(workspace, write(tmp_path, infinite))


REVIEWS = {
    "amazon-2023": [
        {"user_id": f"u{u}", "parent_asin": f"i{i}", "timestamp": (START + i) * 1000, "title": "Great!", "rating": 5.0}
        for u in range(4)
        for i in range(4)
    ],
    "amazon-2018": full(),
    "amazon-2014": full(),
    "yelp": [
        {"user_id": f"u{u}", "business_id": f"i{i}", "date": f"2017-12-0{i + 1}", "name": "Ann"}
        for u in range(4)
        for i in range(4)
    ],
}


@pytest.mark.parametrize("source", REVIEWS)
def test_reviews_are_never_taken_for_items_nor_items_for_reviews(
    workspace: Workspace, tmp_path: Path, source: str
) -> None:
    reviews = REVIEWS[source]
    item = next(iter(set(reviews[0]) & {"parent_asin", "asin", "business_id"}))
    items = [{item: f"i{i}", "title": "Soap", "name": "Soap"} for i in range(4)]
    message = sentence(workspace, write(tmp_path, reviews, reviews, source=source))
    assert "items.json" in message and "It has the fields of a review: give the item dump" in message
    message = sentence(workspace, write(tmp_path, items, items, source=source))
    assert "reviews.json" in message and "are reviews and items exchanged?" in message
