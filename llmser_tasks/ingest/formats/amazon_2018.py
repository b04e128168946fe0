"""Amazon reviews, edition of 2018: JSON lines for reviews and items.

https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/
"""

from __future__ import annotations

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.source import Source, json_only, seconds

DECLARED = DumpFormat(title="Amazon 2018", place=2)

SOURCE = Source(
    name="amazon-2018",
    user="reviewerID",
    item="asin",
    time="unixReviewTime",
    rating="overall",
    title="title",
    milliseconds=seconds,
    lenient=json_only,
    ratings_columns=("asin", "reviewerID", "overall", "unixReviewTime"),  # the ratings-only *.csv: the item first
)
