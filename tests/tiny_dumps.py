"""Dumps in the Amazon 2018 format, small enough to reason about, and an encoder that needs no BERT."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.progress import Progress, silent

ITEMS = 24
DAY = 86_400
SMALL: dict[str, Any] = {
    "source": "amazon-2018",
    "user_core": 1,
    "item_core": 1,
    "dimension": 8,
    "max_length": 8,
    "batch_size": 32,
    "negatives": 16,
    "epochs": 2,
    "patience": 2,
    "pool": 6,
    "pseudo_items": 3,
    "reason_pool": 4,
    "users_per_batch": 25,
    "sampled_negatives": 5,
    "recommendations": 5,
}

Careers = Mapping[str, Sequence[int]]  # user id → items, oldest first


def careers(users: int = 60, seed: int = 0) -> dict[str, list[int]]:
    """3 to 8 distinct items a user; one user in ten has a single training item."""
    random = np.random.default_rng(seed)
    return {
        f"U{user:03d}": (random.permutation(ITEMS)[: 3 if user % 10 == 0 else random.integers(4, 9)] + 1).tolist()
        for user in range(users)
    }


def write_dumps(folder: Path, people: Careers) -> dict[str, str]:
    """Write reviews and meta; the last two interactions of every user fall on the same two days. Items 5 and 6 have no
    title. Returns the settings that name the files."""
    folder.mkdir(parents=True, exist_ok=True)
    reviews, meta = folder / "reviews.json", folder / "meta.json"
    with reviews.open("w") as file:
        for user, items in people.items():
            for place, item in enumerate(items, start=100 - len(items)):
                line = {"reviewerID": user, "asin": f"A{item:03d}", "overall": 5.0, "unixReviewTime": place * DAY}
                file.write(json.dumps(line) + "\n")
    with meta.open("w") as file:
        for item in range(1, ITEMS + 1):
            title = {} if item in {5, 6} else {"title": f"Thing number {item} of {item % 5}"}
            file.write(json.dumps({"asin": f"A{item:03d}", **title}) + "\n")
    return {"reviews": str(reviews), "items": str(meta)}


class FakeEncoder:
    """Random directions, fixed by the title."""

    hash = "fa5e"
    dimension = 4

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        rows = [np.random.default_rng(zlib.crc32(title.encode())).normal(size=4) for title in titles]
        vectors = np.array(rows, np.float32).reshape(-1, 4)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @classmethod
    def open(cls, name: str) -> FakeEncoder:
        return cls()
