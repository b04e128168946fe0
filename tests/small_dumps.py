"""Small dumps, written the way a test needs them, and everything ingest made of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest

DAY = 86_400
START = 1_400_000_000
Line = dict[str, Any] | bytes


def review(user: str, item: str, day: float, **more: Any) -> dict[str, Any]:
    return {"reviewerID": user, "asin": item, "unixReviewTime": int(START + day * DAY), "overall": 5.0} | more


def full(users: int = 4, items: int = 4) -> list[Line]:
    """Every user buys every item, one after the other: nothing falls below a core of 3."""
    return [review(f"u{u}", f"i{i}", 10 * i + u) for u in range(users) for i in range(items)]


def titles(items: int = 4) -> list[Line]:
    return [{"asin": f"i{i}", "title": f"Title {i}"} for i in range(items)]


def encode(lines: Sequence[Line]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def write(
    folder: Path,
    reviews: Sequence[Line],
    items: Sequence[Line] | None = None,
    /,
    *,
    zipped: bool = False,
    **settings: Any,
) -> Dataset:
    """Write dumps (four items' titles by default), plain or as .gz, and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, lines in (("reviews", reviews), ("items", titles() if items is None else items)):
        paths[name] = folder / f"{name}.json{'.gz' if zipped else ''}"
        paths[name].write_bytes(gzip.compress(encode(lines)) if zipped else encode(lines))
    values = {"name": "test", "source": "amazon-2018"} | {name: str(path) for name, path in paths.items()}
    return Dataset(**(values | settings))


class Ingested:
    """A dataset ingested and read back."""

    def __init__(self, workspace: Workspace, dataset: Dataset) -> None:
        self.artefact = ingest(workspace, dataset)
        self.folder = workspace.folder(self.artefact)
        self.summary = workspace.summary(self.artefact)
        self.report = json.loads((self.folder / "report.json").read_text())
        self.interactions = pq.read_table(self.folder / "interactions.parquet").to_pylist()
        self.users = pq.read_table(self.folder / "users.parquet").to_pylist()
        self.items = pq.read_table(self.folder / "items.parquet").to_pylist()
        self.quarantine = pq.read_table(self.folder / "quarantine.parquet").to_pylist()

    def titles(self) -> dict[str, str | None]:
        return {row["item_id"]: row["title"] for row in self.items}

    def bought(self, user_id: str) -> list[str]:
        """Item ids of a user, in order."""
        user = next(row["user"] for row in self.users if row["user_id"] == user_id)
        names = {row["item"]: row["item_id"] for row in self.items}
        return [names[row["item"]] for row in self.interactions if row["user"] == user]


def leftovers(workspace: Workspace) -> list[Path]:
    """Files below a workspace other than locks: what a failed step must not leave."""
    return [p for p in workspace.root.rglob("*") if p.is_file() and not p.name.startswith(".lock-")]
