"""What one format of dump looks like, and how a line of it becomes a row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmser_tasks.core.text import LONGEST_NUMBER, clean_title
from llmser_tasks.ingest.details import Detail

Review = tuple[str, str, int, float | None]  # user id, item id, milliseconds UTC, rating
Item = tuple[str | None, ...]  # item id, title, details in the format's order

LONGEST_ID = 200
SECONDS_END = 100_000_000_000  # below this: seconds until the year 5138, or milliseconds before March 1973
LATEST = 4_102_444_800_000  # 2100-01-01 in milliseconds; a later time is in the wrong unit


class Unusable(ValueError):
    """A line that cannot be used; the message is the reason written to the quarantine."""


@dataclass(frozen=True)
class Source:
    """Fields and rules of one format.

    Attributes:
        user, item, time, rating: names of a review's fields; a missing or empty rating passes.
        title: the item dump's field; its id field is `item`.
        details: what item dumps tell beside the title; `fields` of the declaration has the same names.
        milliseconds: turns the time field's value into milliseconds UTC, or raises ValueError.
        ratings_columns: fields of the edition's ratings without a header, in their order; empty where there are none.
        lenient: reads a line that is not strict JSON, or raises Unusable.
        review_member, item_member: how the files inside a .tar end; None where the format has no .tar.
    """

    name: str
    user: str
    item: str
    time: str
    rating: str
    title: str
    milliseconds: Callable[[Any], int]
    lenient: Callable[[bytes], Any]
    details: tuple[Detail, ...] = ()
    ratings_columns: tuple[str, ...] = ()
    review_member: str | None = None
    item_member: str | None = None

    @property
    def review_fields(self) -> tuple[str, ...]:
        return (self.user, self.item, self.time)

    @property
    def item_fields(self) -> tuple[str, ...]:
        return (self.item, self.title)

    def review(self, record: Any) -> Review:
        """One row of interactions from a parsed line."""
        if type(record) is not dict:
            raise Unusable("not an object")
        user = _identifier(record, self.user)
        item = _identifier(record, self.item)
        try:
            moment = record[self.time]
            time = _since_1970(moment) if isinstance(moment, datetime) else self.milliseconds(moment)
        except KeyError:
            raise Unusable(f"{self.time} is missing") from None
        except Unusable:
            raise
        except (ValueError, TypeError, OverflowError):
            raise Unusable(f"{self.time} is not a time") from None
        if not 0 <= time < LATEST:
            raise Unusable(f"{self.time} is outside 1970–2100")
        return user, item, time, _number(record.get(self.rating), self.rating)

    def item_row(self, record: Any) -> Item:
        """One row of items from a parsed line; a title or detail without readable text is None."""
        if type(record) is not dict:
            raise Unusable("not an object")
        if self.user in record and self.time in record:
            raise Unusable(f"has {self.user} and {self.time}: a review, not an item")
        return (
            _identifier(record, self.item),
            clean_title(record.get(self.title)),
            *(detail.clean(record.get(detail.field)) for detail in self.details),
        )


def json_only(line: bytes) -> Any:
    """JSON as Python's own parser takes it: also NaN and lone surrogates, which dumps hold and strict JSON forbids."""
    try:
        return json.loads(line.decode("utf-8", errors="surrogatepass"))
    except (ValueError, RecursionError):
        raise Unusable("not JSON") from None


def seconds(value: Any) -> int:
    return _whole(value, 1000)


def milliseconds(value: Any) -> int:
    """
    Raises:
        Unusable: it is of 1973 or before, when nobody reviewed anything, so it is in another unit.
    """
    time = _whole(value)
    if 0 < time < SECONDS_END:
        raise Unusable("a time in seconds, where milliseconds belong")
    return time


def _whole(value: Any, factor: int = 1) -> int:
    """Also from text such as "1400000000.0", as tables have it."""
    try:
        return int(value) * factor
    except ValueError:
        return int(float(value) * factor)


def _since_1970(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _identifier(record: dict[Any, Any], field: str) -> str:
    value = record.get(field)
    if type(value) is int and value.bit_length() < LONGEST_NUMBER:
        value = str(value)
    if type(value) is not str:
        raise Unusable(f"{field} is missing" if value is None else f"{field} is not an id")
    if not 0 < len(value) <= LONGEST_ID or not value.isprintable():
        raise Unusable(f"{field} is not an id")
    return value


def _number(value: Any, field: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None  # missing; some exports write that as ""
    if isinstance(value, list | dict):
        raise Unusable(f"{field} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Unusable(f"{field} is not a number") from None
    return None if math.isnan(number) else number
