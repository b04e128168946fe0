"""One synthetic interaction or item as a line of each real format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from llmser_tasks.sample.words import BEAUTY, RESTAURANTS, Vocabulary

SAYS = "Synthetic review, written by a program."


@dataclass(frozen=True)
class Interaction:
    user: str
    item: str
    seconds: int  # UTC
    rating: float | None  # None: the field is left out


@dataclass(frozen=True)
class Item:
    item: str
    title: str | None  # None: the field is left out
    brand: str
    domain: str
    type: str
    attribute: str


@dataclass(frozen=True)
class Format:
    """File names and lines of one kind of dump, and when its reviews were written."""

    reviews: str
    items: str
    vocabulary: Vocabulary
    review: Callable[[Interaction], bytes]
    item: Callable[[Item], bytes]
    first_year: int
    years: float
    whole_days: bool


def _json(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record)


def _literal(record: dict[str, Any]) -> bytes:
    """The repr of a dict, as the item dumps of 2014 are."""
    return repr(record).encode()


def _without_none(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def _review_2014(x: Interaction) -> bytes:
    return _json(
        _without_none(
            {
                "reviewerID": x.user,
                "asin": x.item,
                "reviewerName": "Synthetic",
                "helpful": [0, 0],
                "reviewText": SAYS,
                "overall": x.rating,
                "summary": "Synthetic",
                "unixReviewTime": x.seconds,
                "reviewTime": _month_first(x.seconds),
            }
        )
    )


def _item_2014(x: Item) -> bytes:
    return _literal(
        _without_none(
            {"asin": x.item, "categories": [["Beauty", x.domain, x.type]], "title": x.title, "brand": x.brand}
        )
    )


def _review_2018(x: Interaction) -> bytes:
    return _json(
        _without_none(
            {
                "overall": x.rating,
                "verified": True,
                "reviewTime": _month_first(x.seconds),
                "reviewerID": x.user,
                "asin": x.item,
                "reviewerName": "Synthetic",
                "reviewText": SAYS,
                "summary": "Synthetic",
                "unixReviewTime": x.seconds,
            }
        )
    )


def _item_2018(x: Item) -> bytes:
    return _json(
        _without_none({"category": ["Beauty", x.domain, x.type], "title": x.title, "brand": x.brand, "asin": x.item})
    )


def _review_2023(x: Interaction) -> bytes:
    return _json(
        _without_none(
            {
                "rating": x.rating,
                "title": "Synthetic",
                "text": SAYS,
                "images": [],
                "asin": x.item,
                "parent_asin": x.item,
                "user_id": x.user,
                "timestamp": x.seconds * 1000,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
        )
    )


def _item_2023(x: Item) -> bytes:
    return _json(
        _without_none(
            {
                "main_category": "All Beauty",
                "title": x.title,
                "store": x.brand,
                "categories": ["Beauty", x.domain, x.type],
                "parent_asin": x.item,
            }
        )
    )


def _review_yelp(x: Interaction) -> bytes:
    return _json(
        _without_none(
            {
                "user_id": x.user,
                "business_id": x.item,
                "stars": x.rating,
                "text": SAYS,
                "date": datetime.fromtimestamp(x.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
    )


def _business_yelp(x: Item) -> bytes:
    return _json(
        _without_none(
            {
                "business_id": x.item,
                "name": x.title,
                "address": x.attribute,
                "city": "Syntheticville",
                "is_open": 1,
                "categories": f"{x.domain}, {x.type}, Restaurants",
            }
        )
    )


def _rating(x: Interaction) -> bytes:
    return _json(_without_none({"user": x.user, "item": x.item, "rating": x.rating, "timestamp": x.seconds}))


def _rated(x: Item) -> bytes:
    return _json(
        _without_none({"item": x.item, "title": x.title, "brand": x.brand, "categories": f"{x.domain}, {x.type}"})
    )


def _month_first(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m %d, %Y")


FORMATS: dict[str, Format] = {
    "amazon-2014": Format(
        "reviews_Sample.json.gz", "meta_Sample.json.gz", BEAUTY, _review_2014, _item_2014, 2007, 7, True
    ),
    "amazon-2018": Format("Sample.json.gz", "meta_Sample.json.gz", BEAUTY, _review_2018, _item_2018, 2011, 7, True),
    "amazon-2023": Format("Sample.jsonl.gz", "meta_Sample.jsonl.gz", BEAUTY, _review_2023, _item_2023, 2016, 7, False),
    "yelp": Format(
        "yelp_academic_dataset_review.json.gz",
        "yelp_academic_dataset_business.json.gz",
        RESTAURANTS,
        _review_yelp,
        _business_yelp,
        2012,
        7,
        False,
    ),
    "ratings": Format("ratings.json.gz", "items.json.gz", BEAUTY, _rating, _rated, 2016, 7, True),
}
