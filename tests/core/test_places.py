"""Whoever may trigger a run on Airflow cannot read, nor find out about, what is not theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmser_tasks.core import places
from llmser_tasks.core.config import from_flat
from llmser_tasks.core.errors import InputError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in the folder where the services were started, whose files are open."""
    here = tmp_path / "here"
    (here / ".llmser" / "sample").mkdir(parents=True)
    (here / "more").mkdir()
    (here / "reviews.json").write_text("{}", encoding="utf-8")
    (tmp_path / "secret.json").write_text("planted-secret", encoding="utf-8")
    monkeypatch.chdir(here)
    monkeypatch.setenv(places.VARIABLE, str(here))
    return here / ".llmser"


def checked(home: Path, **settings: str) -> None:
    places.check(from_flat(settings), places.readable(home), home)


def test_what_lies_in_an_open_folder_is_read(home: Path) -> None:
    here = home.parent
    checked(home)
    checked(home, reviews=str(here / "reviews.json"), items="more/../reviews.json")
    checked(home, reviews=str(here / "not there yet.json"), encoder="minilm")
    checked(home, reviews=str(home / "sample" / "reviews.json"), items=str(home / "inbox" / "x" / "new.json"))
    checked(home, encoder="sentence-transformers/all-MiniLM-L12-v2")
    (here / "bert").mkdir()
    checked(home, encoder=str(here / "bert"), vectors=str(here / "bert"))
    checked(home, vectors="endpoint:mine")


@pytest.mark.parametrize("name", ["reviews", "items", "encoder", "vectors"])
@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/nowhere/at/all", "{here}/../secret.json", "{here}/link.json", "{here}/links/secret.json",
     "{home}/airflow/passwords.json", "{home}/sample/../secrets.json", "{home}"],
)  # fmt: skip
def test_what_does_not_is_refused_in_the_same_words_whether_it_is_there_or_not(
    home: Path, name: str, path: str
) -> None:
    here = home.parent
    (here / "link.json").symlink_to(here.parent / "secret.json")
    (here / "links").symlink_to(here.parent)
    given = path.format(here=here, home=home)
    with pytest.raises(InputError) as error:
        checked(home, **{name: given})
    assert str(error.value).startswith(
        f"Setting {name}: {given} lies outside the folders from which runs on Airflow may read: {here}, {home}/sample, "
        f"{home}/inbox. Put it into one of them, or name its folder in LLMSER_DUMPS"
    )
    assert "planted-secret" not in str(error.value)


@pytest.mark.parametrize("text", ["~nobody-here/reviews.json", "a\0b"])
def test_what_is_no_path_is_told(home: Path, text: str) -> None:
    with pytest.raises(InputError, match="is no path; check it"):
        checked(home, reviews=text)


def test_several_folders_may_be_named_and_none_means_the_homes_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.VARIABLE, os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
    checked(home, reviews=str(tmp_path / "a" / "x"), items=str(tmp_path / "b" / "c" / "x"))
    monkeypatch.delenv(places.VARIABLE)
    checked(home, reviews=str(home / "dumps" / "x"))
    with pytest.raises(InputError, match="lies outside"):
        checked(home, reviews=str(home.parent / "reviews.json"))


def test_services_started_anywhere_open_that_folder_but_never_everything(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.here(home) == str(home.parent)
    monkeypatch.chdir("/")
    assert places.here(home) == str(home / "dumps")
    monkeypatch.setenv(places.VARIABLE, str(home))  # and the home stays closed even if it is named
    with pytest.raises(InputError, match="lies outside"):
        checked(home, reviews=str(home / "secrets.json"))
