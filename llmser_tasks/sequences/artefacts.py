"""Interactions → training histories, validation targets, test targets, catalogue: four artefacts that know nothing of
one another.

Their being separate is what keeps held-out items out of training: a step counts its inputs by content, and whatever
builds on `training` and `catalogue` alone comes out the same, byte for byte, when only held-out items change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.item_text import item_texts
from llmser_tasks.sequences.splits import Interactions, Split, leave_one_out, temporal
from llmser_tasks.sequences.targets import write_targets

PERCENTILE = 0.8  # of n_u: the tail threshold T where the dataset names none


def sequences(
    workspace: Workspace, dataset: Dataset, ingest: Artefact, progress: Progress = silent
) -> dict[str, Artefact]:
    """Split a dataset's interactions.

    Returns:
        "training": histories.parquet (users with at least one training item); its summary has `users`,
            `interactions`, `tail_threshold` (T), `lengths` (of n_u), `cold_users` and, for the temporal split, `cuts`;
        "validation", "test": targets.parquet, see `read_targets`; the summary has `users` and how many of them never
            had the item before (`new`): only these count;
        "catalogue": items.parquet (item, item_id, title and, where any item's text is more than that, text),
            users.parquet (user, user_id), of everyone and everything.
    """
    source = workspace.folder(ingest)

    @cache  # split once, and only if one of the artefacts is missing
    def split() -> Split:
        progress(0, 4, "artefacts", f"cutting {dataset.split}")
        return _cut(source, dataset)

    def training(folder: Path) -> dict[str, Any]:
        histories = split().training
        histories.write(folder / "histories.parquet")
        return {
            "users": len(histories),
            "interactions": len(histories.items),
            "items": len(np.unique(histories.items)),
            "tail_threshold": tail_threshold(histories, dataset),
            "lengths": _lengths(histories),
            "split": dataset.split,
            "cold_users": split().cold,
            "cuts": split().cuts,
        }

    def held_out(part: str) -> Callable[[Path], dict[str, Any]]:
        def write(folder: Path) -> dict[str, Any]:
            targets = split().validation if part == "validation" else split().test
            write_targets(folder / "targets.parquet", targets)
            known = np.isin(targets.items, split().training.items)
            new = ~targets.inputs(split().training).hold(targets.items)
            return {"users": len(targets), "new": int(new.sum()), "items_never_trained_on": int((~known).sum())}

        return write

    def catalogue(folder: Path) -> dict[str, Any]:
        return _catalogue(source, folder, dataset.item_text)

    steps: dict[str, tuple[Callable[[Path], dict[str, Any]], dict[str, Any]]] = {
        "training": (training, {"split": dataset.split, "tail_threshold": dataset.tail_threshold}),
        "validation": (held_out("validation"), {"split": dataset.split}),
        "test": (held_out("test"), {"split": dataset.split}),
        "catalogue": (catalogue, {"item_text": list(dataset.item_text)}),
    }
    made: dict[str, Artefact] = {}
    for name, (write, config) in steps.items():
        made[name] = workspace.produce(name, dataset.name, write, inputs={"ingest": ingest}, config=config)
        progress(len(made), len(steps), "artefacts", name)
    return made


def tail_threshold(training: Histories, dataset: Dataset) -> int:
    """T: the dataset's own, else the smallest n that at least 80 % of users do not exceed."""
    if dataset.tail_threshold is not None:
        return dataset.tail_threshold
    return int(np.quantile(training.lengths, PERCENTILE, method="inverted_cdf"))


def threshold_of(run: Run, refs: Refs) -> int:
    """T of a run."""
    threshold: int = run.workspace.summary(artefact(refs, "training"))["tail_threshold"]
    return threshold


def _cut(ingest: Path, dataset: Dataset) -> Split:
    table = pq.read_table(ingest / "interactions.parquet", columns=["user", "item", "timestamp"])
    interactions = Interactions(*(table[name].to_numpy() for name in table.column_names))
    split = temporal(interactions) if dataset.split == "temporal" else leave_one_out(interactions)
    if not len(split.training):
        raise InputError(f"No user of dataset {dataset.name} has a training item; lower the core filter.")
    return split


def _lengths(histories: Histories) -> dict[str, int]:
    low, middle, high, longest = np.quantile(histories.lengths, (0, 0.5, PERCENTILE, 1), method="inverted_cdf")
    return {"min": int(low), "median": int(middle), "p80": int(high), "max": int(longest)}


def _catalogue(ingest: Path, folder: Path, item_text: Sequence[str]) -> dict[str, Any]:
    columns = list(dict.fromkeys(["item", "item_id", "title", *item_text]))
    told = pq.read_table(ingest / "items.parquet", columns=columns)
    items, texts = told.select(columns[:3]), pa.chunked_array([item_texts(told, item_text)])
    if not texts.equals(items["title"]):  # titles that say all there is make the same catalogue, whatever the setting
        items = items.append_column("text", texts)
    users = pq.read_table(ingest / "users.parquet", columns=["user", "user_id"])
    pq.write_table(items, folder / "items.parquet")
    pq.write_table(users, folder / "users.parquet")
    return {"items": items.num_rows, "titles": items.num_rows - items["title"].null_count, "users": users.num_rows}
