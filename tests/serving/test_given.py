from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from llmser_tasks.core.errors import InputError
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.serving.given import Given, read_histories, resolve
from llmser_tasks.serving.titles import Match

CATALOGUE = Catalogue(
    pa.array(["a", "b", "c"]), pa.array(["Red Tea", "Green Tea Leaves", None]), pa.array([], pa.string())
)


def read(tmp_path: Path, text: str | bytes) -> list[Given]:
    path = tmp_path / "histories"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_histories(path)


def test_json_lines(tmp_path: Path) -> None:
    text = '\n["a", "b"]\n\n{"user_id": "ann", "titles": ["Red, Tea"]}\n{"user_id": 7, "item_ids": ["c"]}'
    assert read(tmp_path, text) == [
        Given("2", ["a", "b"], "item_ids"), Given("ann", ["Red, Tea"], "titles"), Given("7", ["c"], "item_ids"),
    ]  # fmt: skip


def test_csv_keeps_the_order_of_lines_and_users(tmp_path: Path) -> None:
    text = '\ufeffwhen,user_id,title\n1,zoe,"Tea, red"\n2,ann,x\n3,zoe,y\n'
    assert read(tmp_path, text) == [Given("zoe", ["Tea, red", "y"], "titles"), Given("ann", ["x"], "titles")]
    assert read(tmp_path, "item_id\nb\na\n") == [Given("1", ["b", "a"], "item_ids")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no column item_id or title"),
        ("user_id,item_id\n", "holds no history"),
        ("user_id,asin\nu,a\n", "no column item_id or title"),
        ('["a"]\n["a",', "Line 2 of .* is not JSON"),
        ('["a", 3]', "Line 1 of .* is no history"),
        ('{"user": 1}', "Line 1 of .* is no history"),
        (b'["a"]\n\xff\xfe', "neither JSON lines nor CSV in UTF-8"),
        ("item_id\n" + "x" * 200_000, "neither JSON lines nor CSV"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, text)


def test_a_missing_file() -> None:
    with pytest.raises(InputError, match="Cannot read nowhere: No such file or directory"):
        read_histories(Path("nowhere"))


def test_ids_and_titles_become_items_and_what_was_taken_is_told_once() -> None:
    said: list[tuple[str, Match]] = []
    given = [Given("1", ["c", "a"], "item_ids"), Given("2", ["green tea", "RED tea"], "titles")] * 2
    found = resolve(given, CATALOGUE, lambda title, match: said.append((title, match)))
    assert [row.tolist() for row in found] == [[3, 1], [2, 1]] * 2
    assert [(title, match.item) for title, match in said] == [("green tea", 2)]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Given("ann", ["a", "x\x1b"], "item_ids"), r"these item ids: 'x\\x1b' \(history of 'ann'\); correct them"),
        (Given("ann", ["qqqq"], "titles"), "these titles or similar ones: 'qqqq'"),
        (Given("ann", list("qrstuvw"), "item_ids"), r"'u' \(history of 'ann'\) and 2 more; correct them"),
        (Given("ann", [], "item_ids"), "The history of 'ann' is empty"),
    ],
)
def test_what_the_catalogue_does_not_have_is_named(given: Given, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        resolve([Given("1", ["a"], "item_ids"), given], CATALOGUE, lambda *_: None)
