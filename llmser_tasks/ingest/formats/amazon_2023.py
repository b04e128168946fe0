"""Amazon reviews, edition of 2023: JSON lines, variants grouped under `parent_asin`, times in milliseconds.

https://amazon-reviews-2023.github.io/
"""

from __future__ import annotations

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.details import Detail, categories, description, dollars, name
from llmser_tasks.ingest.source import Source, json_only, milliseconds

DECLARED = DumpFormat(
    title="Amazon 2023",
    place=3,
    fields=("brand", "categories", "price", "description"),
    text=("title", "brand", "categories"),
)

SOURCE = Source(
    name="amazon-2023",
    user="user_id",
    item="parent_asin",
    time="timestamp",
    rating="rating",
    title="title",
    details=(
        Detail("brand", "store", name),
        Detail("categories", "categories", categories),
        Detail("price", "price", dollars),
        description("description"),
    ),
    milliseconds=milliseconds,
    lenient=json_only,
)
