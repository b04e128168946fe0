"""Amazon reviews, edition of 2018: JSON lines for reviews and items.

https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/
"""

from __future__ import annotations

import re
from typing import Any

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.details import Detail, categories, description, dollars, name
from llmser_tasks.ingest.source import Source, json_only, seconds

DECLARED = DumpFormat(
    title="Amazon 2018",
    place=2,
    fields=("brand", "categories", "price", "description"),
    text=("title", "brand", "categories"),
)

_PAGE = re.compile(r"Visit Amazon's (.+) Page")  # what books have for a brand: a link to their author's page


def _brand(raw: Any) -> str | None:
    brand = name(raw)
    return brand and _PAGE.sub(r"\1", brand)


SOURCE = Source(
    name="amazon-2018",
    user="reviewerID",
    item="asin",
    time="unixReviewTime",
    rating="overall",
    title="title",
    details=(
        Detail("brand", "brand", _brand),
        Detail("categories", "category", categories),
        Detail("price", "price", dollars),
        description("description"),
    ),
    milliseconds=seconds,
    lenient=json_only,
    ratings_columns=("asin", "reviewerID", "overall", "unixReviewTime"),  # the ratings-only *.csv: the item first
)
