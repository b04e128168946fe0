"""The counts of real dumps, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_dumps import Ingested

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.workspace import Workspace

DATA = Path(os.environ.get("LLMSER_REAL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")

# folder: source, reviews, items, (users, items, interactions) before filtering, (…) after it, exact duplicates
REAL = {
    "amazon_beauty_2014": (
        "amazon-2014",
        "reviews_Beauty_5.json.gz",
        "meta_Beauty.json.gz",
        (22_363, 12_101, 198_502),
        (22_363, 12_101, 198_502),
        0,
    ),
    "amazon_gift_cards_2018": (
        "amazon-2018",
        "Gift_Cards_5.json.gz",
        "meta_Gift_Cards.json.gz",
        (458, 148, 2_972),
        (458, 148, 2_969),
        3,
    ),
    "yelp_sun_city": (
        "yelp",
        "yelp_academic_dataset_review.json.gz",
        "yelp_academic_dataset_business.json.gz",
        (2_857, 259, 3_602),
        (144, 167, 628),
        0,
    ),
    "yelp_s3rec": (
        "yelp",
        "yelp_academic_dataset_review.json.gz",
        "yelp_academic_dataset_business.json.gz",
        (30_431, 20_033, 316_354),
        (30_431, 20_033, 316_354),
        0,
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_dumps_have_the_counts_they_are_known_for(workspace: Workspace, name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the real dumps are not at {DATA} (set LLMSER_REAL_DATA to their folder)")
    source, reviews, items, before, after, duplicates = REAL[name]
    done = Ingested(
        workspace,
        Dataset(name=name, source=source, reviews=str(DATA / name / reviews), items=str(DATA / name / items)),
    )
    assert tuple(done.report["before"][key] for key in ("users", "items", "interactions")) == before
    assert tuple(done.report["after"][key] for key in ("users", "items", "interactions")) == after
    assert done.report["lines"]["reviews"]["duplicates"] == duplicates
    assert done.report["titles"]["coverage"] > 0.999
    assert done.summary["synthetic"] is False
