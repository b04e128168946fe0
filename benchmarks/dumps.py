"""The real dumps that benchmarks run on, and the settings that go with each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmser_tasks.core import environment
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.sequences.artefacts import sequences

YELP = {"reviews": "yelp_academic_dataset_review.json.gz", "items": "yelp_academic_dataset_business.json.gz"}
DATASETS: dict[str, dict[str, Any]] = {
    "amazon_gift_cards_2018": {
        "source": "amazon-2018",
        "reviews": "Gift_Cards_5.json.gz",
        "items": "meta_Gift_Cards.json.gz",
        "noun": "gift card",
    },
    "yelp_sun_city": {"source": "yelp", **YELP, "noun": "business"},
    "amazon_beauty_2014": {
        "source": "amazon-2014",
        "reviews": "reviews_Beauty_5.json.gz",
        "items": "meta_Beauty.json.gz",
        "item_core": 5,
        "noun": "beauty product",
    },
    "yelp_s3rec": {"source": "yelp", **YELP, "noun": "business"},
}


def values(folder: Path, name: str) -> dict[str, Any]:
    """Flat settings of a dataset whose dumps lie in `folder`/`name`."""
    known = DATASETS[name]
    return {"dataset": name, **known} | {
        key: str((folder / name / known[key]).absolute()) for key in ("reviews", "items")
    }


def items_of(store: Workspace, catalogue: Artefact) -> int:
    """I of a catalogue."""
    return int(pq.read_metadata(store.folder(catalogue) / "items.parquet").num_rows)


def cut(folder: Path, name: str) -> tuple[Workspace, dict[str, Artefact]]:
    """Ingest a dataset and cut its histories (what is there already is kept): the store, and what it has now."""
    dataset, store = environment.configuration(values(folder, name)).dataset, environment.workspace()
    return store, sequences(store, dataset, ingest(store, dataset))
