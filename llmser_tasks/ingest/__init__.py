"""Dumps → interactions, users, items, a quarantine and a report.

The rules, in the order in which they apply to a line (or an element of a JSON array, or a row of a table: `records`):

1. A blank line is skipped and counted.
2. A line that cannot be used (not JSON, a field missing, no id, no time) goes to quarantine.parquet with its number and
   the reason. Ids are 1 to 200 printable characters. A missing rating or number of stars is no reason: the line passes.
3. Exact duplicates (same user, item and time) collapse to the first line; its rating counts. The same item bought
   again at another time stays.
4. A rating of 0 or less drops the interaction.
5. Core filter: users with fewer than `user_core` interactions and items with fewer than `item_core` fall out, on
   counts taken once (users and items at the same time); with `iterate_core`, until nothing falls out any more.
   An interaction that misses both counts as `user_core`.
6. Users shorter than `min_length` afterwards fall out.

A dump whose first lines are all unusable is taken for another format and given up. What arrived in the dataset's inbox
is read after the base dump, file by file, as if it were its end (`inbox`).

Interactions are sorted by user and time, those of one moment by `ties` (`writing` says why). Users are numbered from 0
in order of their ids, items from 1 (0 is padding). An item's title is the first among its lines that `text.clean_title`
can make something of; a reviewed item without one has a null title and stays. What else describes it (`details`) is
taken from the first of its lines that tells any of it.

A dataset is synthetic when all of its users' ids begin with `SYN-`, as those of `llmser_tasks.sample` do: the mark
travels with the data itself.

Memory does not grow with the dump: lines are read in blocks, everything sorted or grouped spills to disk.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

from llmser_tasks.core.config import Dataset, digest
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import DUMP_FORMATS
from llmser_tasks.core.places import path_of
from llmser_tasks.core.printable import printable
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace, write_json
from llmser_tasks.ingest import dumps, filtering, looks, reading, report, writing
from llmser_tasks.ingest.dumps import Dump, Identity
from llmser_tasks.ingest.inbox import ITEMS, REVIEWS, at_hand
from llmser_tasks.ingest.sources import named

__all__ = ["ingest"]

SAMPLE = "sample"  # what the names of synthetic datasets begin with


def ingest(
    workspace: Workspace, dataset: Dataset, progress: Progress = silent, *, inbox: str | None = None
) -> Artefact:
    """Read a dataset's dumps into interactions.parquet, users.parquet, items.parquet, quarantine.parquet, report.json.

    The result depends on the dumps' bytes and the filter's settings; where it exists, it is kept.

    Args:
        inbox: folder or fsspec URL below which new interactions and items arrive; None: the base dump alone.

    Raises:
        InputError: a dump is missing, empty, damaged, of another format or without titles, or nothing is left of it.
        StorageError: the disk is full or not writable.
    """
    source = named(dataset.source)
    reviews, items = _dumps(dataset)
    late_reviews, late_items = (
        [Dump(path) for path in at_hand(inbox, dataset.name, folder, workspace.root / dataset.name / "inbox")]
        if inbox
        else []
        for folder in (REVIEWS, ITEMS)
    )
    every = {dump.path: dump for dump in (reviews, items, *late_reviews, *late_items)}
    identities = {path: dumps.identify(path, progress) for path in every}
    late_reviews = _without_repeats(reviews, late_reviews, identities)
    late_items = _without_repeats(items, late_items, identities)
    late = [[identities[dump.path].sha256 for dump in part] for part in (late_reviews, late_items)]

    def write(folder: Path) -> dict[str, Any]:
        return _write(folder, dataset, [reviews, *late_reviews], [items, *late_items], identities, progress)

    return workspace.produce(
        "ingest",
        dataset.name,
        write,
        inputs={"reviews": identities[reviews.path].sha256, "items": identities[items.path].sha256}
        | ({"inbox": digest(late)} if any(late) else {}),
        config=dataset.model_dump(include={"user_core", "item_core", "iterate_core", "min_length", "ties"})
        | {"source": source.name},
        chosen=[DUMP_FORMATS.module_of(dataset.source)],
    )


def _dumps(dataset: Dataset) -> tuple[Dump, Dump]:
    """The two dumps to read; for Yelp both may be in one .tar."""
    source = named(dataset.source)
    if not dataset.reviews:
        advice = "set reviews to its path"
        if dataset.name.split("-")[0] == SAMPLE:  # those of the demonstration ship without dumps
            written = f"`llmser sample --source {dataset.source}`"
            advice += f", or let {written} write synthetic dumps and pass what it prints (--reviews, --items)"
        raise InputError(f"Dataset {dataset.name} names no review dump; {advice}.")
    looks.refuse_address(dataset.reviews, "review")
    looks.refuse_address(dataset.items, "item")
    reviews = path_of("reviews", dataset.reviews)
    dumps.check(reviews, "review")
    both = not dataset.items and source.item_member is not None and tarfile.is_tarfile(reviews)
    if not dataset.items and not both:
        raise InputError(f"Dataset {dataset.name} names no item dump, which has the titles; set items to its path.")
    items = reviews if both else path_of("items", dataset.items)
    dumps.check(items, "item")
    return Dump(reviews, source.review_member), Dump(items, source.item_member)


def _without_repeats(base: Dump, late: list[Dump], identities: dict[Path, Identity]) -> list[Dump]:
    """The dumps whose bytes differ from the base's and all before; a file counts once, whatever its name."""
    seen = {identities[base.path].sha256}
    kept = []
    for dump in late:
        if (sha256 := identities[dump.path].sha256) not in seen:
            seen.add(sha256)
            kept.append(dump)
    return kept


def _write(
    folder: Path,
    dataset: Dataset,
    reviews: list[Dump],
    items: list[Dump],
    identities: dict[Path, Identity],
    progress: Progress,
) -> dict[str, Any]:
    source = named(dataset.source)
    work = folder / "work"
    work.mkdir()
    with reading.Table(folder / "quarantine.parquet", reading.QUARANTINE) as quarantine:
        with reading.Table(work / "reviews.parquet", reading.REVIEWS) as rows:
            read = reading.read_reviews(reviews, source, rows, quarantine, progress)
        with reading.Table(work / "meta.parquet", reading.items_schema(source)) as rows:
            read_items = reading.read_items(items, source, rows, quarantine, progress)
    for path in [dump.path for dump in (*reviews, *items)]:
        if not dumps.unchanged(path, identities[path]):
            raise InputError(f"{path} was changed while it was read; rerun once it is complete.")
    with filtering.database(work) as connection:
        filtering.view(connection, "reviews", work / "reviews.parquet")
        filtering.view(connection, "meta", work / "meta.parquet")
        progress(read.lines, read.lines, "lines", "removing duplicates, filtering")
        counts = filtering.select(connection, dataset)
        if not counts.kept:
            raise report.nothing_left(dataset, read, counts)
        progress(read.lines, read.lines, "lines", "sorting")
        writing.write(connection, folder, dataset.ties, source.details)
        facts = report.facts(connection, dataset, read, read_items, counts, source.details)
    if not facts["titles"]["with_title"]:
        raise InputError(
            f"None of the {counts.kept_items:,} items left has a title in {items[0].path}, and the LLM steps need "
            f"titles; check that it is the item dump of {reviews[0].path.name}."
        )
    shutil.rmtree(work)
    files = {"reviews": _about(reviews[0], identities), "items": _about(items[0], identities)}
    late = [_about(dump, identities) for dump in (*reviews[1:], *items[1:])]
    write_json(folder / "report.json", facts | {"files": files, "inbox": late})
    return report.summary(facts) | {"inbox": len(late)}


def _about(dump: Dump, identities: dict[Path, Identity]) -> dict[str, Any]:
    identity = identities[dump.path]
    return {"name": printable(dump.path.name), "bytes": identity.bytes, "sha256": identity.sha256}
