"""Histories that people give, by item id or by title → the model's items."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson

from llmser_tasks.core.errors import InputError
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.serving.titles import Match, Titles

By = Literal["item_ids", "titles"]
WORDS: dict[By, str] = {"item_ids": "these item ids", "titles": "these titles or similar ones"}
NAMED = 5  # unknown items named in a sentence


@dataclass(frozen=True)
class Given:
    """One history, oldest item first.

    Attributes:
        user: the id that whoever gave it uses, else its number.
        by: what `names` are.
    """

    user: str
    names: Sequence[str]
    by: By


def read_histories(path: Path) -> list[Given]:
    """Histories of a file.

    JSON lines: one history a line, `["B01", "B02"]` or `{"user_id": "ann", "item_ids": ["B01", "B02"]}`, or with
    `titles` in place of `item_ids`. CSV with a header: one interaction a line, `user_id,item_id` or `user_id,title`; a
    user's lines are one history, and without `user_id` all lines are. Oldest first.

    Raises:
        InputError: the file cannot be read, or a line is none of these.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(1)
            while start.isspace():
                start = file.read(1)
            file.seek(0)
            found = list(_json_lines(file, path) if start in {"[", "{"} else _comma_separated(file, path))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is neither JSON lines nor CSV in UTF-8 ({error}).") from None
    if not found:
        raise InputError(f"{path} holds no history; write one a line, as JSON, or CSV with a header.")
    return found


def resolve(given: Sequence[Given], catalogue: Catalogue, say: Callable[[str, Match], None]) -> Histories:
    """The same histories as items 1 … I; user r is `given[r]`.

    Args:
        say: is told which item was taken for a title that is not its own, or that several items have; once a title.

    Raises:
        InputError: an item is not in the catalogue, or a history is empty.
    """
    titles = Titles(catalogue)
    matches: dict[str, Match | None] = {}

    def of_title(title: str) -> int:
        if title not in matches:
            matches[title] = match = titles.match(title)
            if match and (not match.exact or match.others):
                say(title, match)
        match = matches[title]
        return match.item if match else 0

    rows: list[list[int]] = []
    unknown: dict[str, Given] = {}
    for history in given:
        if not history.names:
            raise InputError(f"The history of {history.user!r} is empty; give at least one item.")
        by_id = history.by == "item_ids"
        items = catalogue.items_of(history.names).tolist() if by_id else [of_title(name) for name in history.names]
        unknown |= {name: history for name, item in zip(history.names, items, strict=True) if not item}
        rows.append(items)
    if unknown:
        raise InputError(_unknown(unknown))
    return Histories.of(range(len(rows)), rows)


def _unknown(unknown: dict[str, Given]) -> str:
    """'The catalogue does not have these item ids: 'x' (history of 'ann') and 3 more; …'"""
    names = [f"{name!r} (history of {given.user!r})" for name, given in unknown.items()]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    kinds = {given.by for given in unknown.values()}
    what = WORDS[kinds.pop()] if len(kinds) == 1 else "these items"
    return f"The catalogue does not have {what}: {', '.join(names[:NAMED])}{more}; correct them or leave them out."


def _json_lines(file: TextIO, path: Path) -> Iterator[Given]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InputError(f"Line {number} of {path} is not JSON: {error}.") from None
        history = {"item_ids": value} if isinstance(value, list) else value
        by: By | None = _named_by(history)
        if by is None or not _texts(history[by]):
            raise InputError(
                f"Line {number} of {path} is no history; write a list of item ids, or an object with a list `item_ids` "
                "or `titles`, and `user_id` if you like."
            )
        yield Given(str(history.get("user_id", number)), history[by], by)


def _comma_separated(file: TextIO, path: Path) -> Iterator[Given]:
    reader = csv.DictReader(file)
    columns = reader.fieldnames or []
    by: By | None = "item_ids" if "item_id" in columns else "titles" if "title" in columns else None
    if by is None:
        raise InputError(f"{path} has no column item_id or title in its first line; name one so (and user_id).")
    column = "item_id" if by == "item_ids" else "title"
    found: dict[str, list[str]] = {}
    for row in reader:
        found.setdefault(row.get("user_id") or "1", []).append(row[column] or "")
    for user, names in found.items():
        yield Given(user, names, by)


def _named_by(history: Any) -> By | None:
    if not isinstance(history, dict):
        return None
    return "item_ids" if "item_ids" in history else "titles" if "titles" in history else None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
