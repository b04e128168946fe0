"""Yelp academic dataset: JSON lines, loose or inside the .tar that Yelp hands out. Its dates are taken as UTC.

https://business.yelp.com/data/resources/open-dataset/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.details import Detail, categories, name
from llmser_tasks.ingest.source import Source, json_only

DECLARED = DumpFormat(
    title="Yelp",
    place=4,
    noun="business",
    fields=("categories", "city"),
    text=("title", "categories", "city"),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date_in_milliseconds(value: Any) -> int:
    """ "2017-12-02 18:54:29", or "2017-12-02" as editions before 2018 have it."""
    moment = datetime.fromisoformat(value)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


SOURCE = Source(
    name="yelp",
    user="user_id",
    item="business_id",
    time="date",
    rating="stars",
    title="name",
    details=(Detail("categories", "categories", categories), Detail("city", "city", name)),
    milliseconds=date_in_milliseconds,
    lenient=json_only,
    review_member="review.json",
    item_member="business.json",
)
