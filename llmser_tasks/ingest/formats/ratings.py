"""Any shop's ratings: `user,item,rating,timestamp`, as MovieLens has them. Times are seconds or milliseconds since
1970, which their size tells apart, or dates in ISO's form.
"""

from __future__ import annotations

from typing import Any

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.details import Detail, categories, description, name, price
from llmser_tasks.ingest.formats.yelp import date_in_milliseconds
from llmser_tasks.ingest.source import SECONDS_END, Source, json_only, seconds

DECLARED = DumpFormat(
    title="any shop's ratings",
    place=5,
    fields=("brand", "categories", "city", "price", "description"),
    text=("title", "brand", "categories"),
)


def moment(value: Any) -> int:
    try:
        number = seconds(value)
    except ValueError:
        return date_in_milliseconds(value)
    return number if abs(number) < SECONDS_END * 1000 else number // 1000


SOURCE = Source(
    name="ratings",
    user="user",
    item="item",
    time="timestamp",
    rating="rating",
    title="title",
    details=(
        Detail("brand", "brand", name),
        Detail("categories", "categories", categories),
        Detail("city", "city", name),
        Detail("price", "price", price),
        description("description"),
    ),
    milliseconds=moment,
    lenient=json_only,
    ratings_columns=("user", "item", "rating", "timestamp"),
)
