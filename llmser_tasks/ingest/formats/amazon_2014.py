"""Amazon reviews, edition of 2014: JSON lines for reviews, Python literals (or JSON) for the item dump.

https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html
"""

from __future__ import annotations

import ast
from typing import Any

from llmser_tasks.core.kinds import DumpFormat
from llmser_tasks.ingest.details import Detail, categories, description, dollars, name
from llmser_tasks.ingest.source import Source, Unusable, seconds

DECLARED = DumpFormat(
    title="Amazon 2014",
    place=1,
    fields=("brand", "categories", "price", "description"),
    text=("title", "brand", "categories"),
)

LONGEST_LITERAL = 1 << 20  # bytes; the longest real line has about a tenth of it


def literal_or_json(line: bytes) -> Any:
    """A line that strict JSON refused: the repr of a Python dict.

    Only `ast.literal_eval` reads it, which builds constants and calls nothing. The parser's own limits stop deep
    nesting; the limit on length bounds what a line may cost in memory.
    """
    if len(line) > LONGEST_LITERAL:
        raise Unusable("longer than 1 MiB")
    try:
        return ast.literal_eval(line.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Unusable("neither JSON nor a Python literal") from None


SOURCE = Source(
    name="amazon-2014",
    user="reviewerID",
    item="asin",
    time="unixReviewTime",
    rating="overall",
    title="title",
    details=(
        Detail("brand", "brand", name),
        Detail("categories", "categories", categories),
        Detail("price", "price", dollars),
        description("description"),
    ),
    milliseconds=seconds,
    lenient=literal_or_json,
    ratings_columns=("reviewerID", "asin", "overall", "unixReviewTime"),  # ratings_*.csv
)
