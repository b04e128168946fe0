"""What lies in an inbox: which files count, in which order, and that buckets are read like folders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from llmser_tasks.core.errors import InputError
from llmser_tasks.ingest import inbox


def put(folder: Path, name: str, text: str = "{}\n", age: float = 60) -> Path:
    path = folder / "tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(folder: Path, kind: str = inbox.REVIEWS) -> list[str]:
    return [file.name for file in inbox.arrivals(str(folder), "tiny", kind)]


def test_settled_files_count_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.json", "a.json.gz", "items/meta.json"):
        put(tmp_path, name)
    for name in ("c.json.part", "c.json.TMP", ".c.json", "_c.json", "c.json~", "deeper/c.json"):
        put(tmp_path, name)
    put(tmp_path, "empty.json", "")
    put(tmp_path, "growing.json", age=1)
    link = tmp_path / "tiny" / "link.json"
    link.symlink_to(tmp_path / "tiny" / "b.json")
    os.utime(link, (1e9, 1e9), follow_symlinks=False)
    assert names(tmp_path) == ["a.json.gz", "b.json"] and names(tmp_path, inbox.ITEMS) == ["meta.json"]
    assert inbox.at_hand(str(tmp_path), "tiny", inbox.REVIEWS, tmp_path / "cache")[1] == tmp_path / "tiny" / "b.json"


@pytest.mark.parametrize("kind", [inbox.REVIEWS, inbox.ITEMS])
def test_a_datasets_folder_that_leads_elsewhere_is_refused(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "elsewhere", "secret.json")
    root = tmp_path / "inbox"
    place = root / "tiny" / kind
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere" / "tiny")
    for asked in (lambda: names(root, kind), lambda: inbox.signature(str(root), "tiny")):
        with pytest.raises(InputError, match="is a link that leads out of"):
            asked()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")  # who runs the services said so
    assert names(tmp_path / "linked") == ["secret.json"]


def test_an_inbox_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert names(tmp_path) == [] and inbox.signature(str(tmp_path), "tiny") is None


def test_the_signature_moves_with_every_change_and_with_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "a.json")
    seen = [inbox.signature(str(tmp_path), "tiny")]
    put(tmp_path, "a.json.part")
    assert inbox.signature(str(tmp_path), "tiny") == seen[0]
    for name, text in (("b.json", "{}\n"), ("b.json", "{}\n{}\n"), ("items/b.json", "{}\n")):
        put(tmp_path, name, text)
        seen.append(inbox.signature(str(tmp_path), "tiny"))
    assert len(set(seen)) == 4


@pytest.fixture
def bucket() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    yield "memory://bucket/new"
    files.rm("/bucket", recursive=True)


def test_a_bucket_is_read_like_a_folder_and_each_file_fetched_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("memory")
    for name in ("tiny/b.json", "tiny/a.json", "tiny/items/m.json", "other/z.json", "tiny/c.json.part"):
        files.pipe(f"/bucket/new/{name}", name.encode())
    assert [file.name for file in inbox.arrivals(bucket, "tiny")] == ["a.json", "b.json"]
    paths = inbox.at_hand(bucket, "tiny", inbox.REVIEWS, tmp_path)
    assert [path.read_text() for path in paths] == ["tiny/a.json", "tiny/b.json"]
    monkeypatch.setattr(type(files), "open", lambda *_, **__: pytest.fail("fetched again"))
    assert inbox.at_hand(bucket, "tiny", inbox.REVIEWS, tmp_path) == paths


def test_a_store_that_is_not_known_is_named() -> None:
    with pytest.raises(InputError, match="The inbox nowhere://x cannot be opened"):
        inbox.arrivals("nowhere://x", "tiny")
