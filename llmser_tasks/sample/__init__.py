"""Synthetic dumps in the real formats, with the dirt of real dumps: for demos, tests and load.

Nothing here is real, and it says so: every id begins with `SYN-`, the review texts say it, and so does SYNTHETIC.txt
beside the dumps. Ingest recognises the ids and marks the dataset, and every run on it, as synthetic.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.sample import shop
from llmser_tasks.sample.formats import FORMATS, Format, Interaction
from llmser_tasks.sample.world import World, build, careers

__all__ = ["SampleFiles", "write_sample"]

MARKER = "SYNTHETIC.txt"
GROUP = 4096  # users drawn at a time: what is held in memory
DUPLICATE = 0.01  # shares of lines
NO_RATING = 0.01
ZERO_RATING = 0.002
GARBAGE = 1 / 4000


@dataclass(frozen=True)
class SampleFiles:
    """Where the sample lies."""

    reviews: Path
    items: Path
    marker: Path


def write_sample(
    folder: Path,
    *,
    users: int = 3000,
    items: int | None = None,
    seed: int = 42,
    source: str = "amazon-2014",
    progress: Progress = silent,
) -> SampleFiles:
    """Write synthetic dumps of any size into `folder`, at constant memory; the same arguments give the same bytes.

    Args:
        users: people with at least one interaction; about one in eight has fewer than 3.
        items: size of the catalogue, at least 10; by default 600 for 3,000 users, growing more slowly than they do.

    Raises:
        InputError: a number is too small, or the folder holds dumps that are not a sample.
        StorageError: the disk is full or not writable.
    """
    if users < 1:
        raise InputError(f"A sample needs at least one user (given: {users}).")
    items = max(60, round(600 * (users / 3000) ** 0.75)) if items is None else items
    if items < 10:
        raise InputError(f"A sample needs at least 10 items (given: {items}).")
    style = FORMATS[source]
    files = SampleFiles(folder / style.reviews, folder / style.items, folder / MARKER)
    for dump in (files.reviews, files.items):
        if dump.exists() and not files.marker.exists():
            raise InputError(f"{dump} is there already and is no sample; choose another folder with -o.")
    world = build(items, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.marker.write_text(
            f"SYNTHETIC DATA. {style.reviews} and {style.items} were written by a program (llmser sample, source "
            f"{source}, {users} users, {items} items, seed {seed}). No person, product or place in them exists.\n",
            encoding="utf-8",
        )
        with _gzip(files.items) as lines:
            for line in shop.lines(world, style, seed):
                lines.write(line + b"\n")
        with _gzip(files.reviews) as lines:
            for first in range(0, users, GROUP):
                lines.write(b"\n".join(_reviews(world, style, seed, first, min(GROUP, users - first))) + b"\n")
                progress(min(first + GROUP, users), users, "users", source)
    except OSError as error:
        raise StorageError(
            f"Cannot write the sample to {folder}: {error.strerror or error}; free space or choose another folder."
        ) from error
    return files


def _reviews(world: World, style: Format, seed: int, first: int, users: int) -> list[bytes]:
    """The review lines of one group of users, in no particular order, dirt included."""
    random = np.random.default_rng([seed, 1, first])
    group = careers(world, users, style.years, style.whole_days, random)
    epoch = int(datetime(style.first_year, 1, 1, tzinfo=UTC).timestamp())
    no_rating = random.random(len(group.users)) < NO_RATING
    zero = random.random(len(group.users)) < ZERO_RATING
    lines = [
        style.review(
            Interaction(
                user=f"SYN-A{first + user:08d}",
                item=shop.identifier(item),
                seconds=epoch + second,
                rating=None if without else float(0 if zero_rated else rating),
            )
        )
        for user, item, second, rating, without, zero_rated in zip(
            group.users.tolist(),
            group.items.tolist(),
            group.seconds.tolist(),
            group.ratings.tolist(),
            no_rating.tolist(),
            zero.tolist(),
            strict=True,
        )
    ]
    lines += [lines[row] for row in np.flatnonzero(random.random(len(lines)) < DUPLICATE)]
    lines += garbage(lines[0], int(random.binomial(len(lines), GARBAGE)) + (3 if first == 0 else 0))
    return [lines[row] for row in random.permutation(len(lines))]


def garbage(line: bytes, count: int) -> list[bytes]:
    """Lines that no reader can use: broken off, empty objects, binary, lists."""
    kinds = (line[: len(line) // 2], b"{}", b"\x93\x00\xffnot text", b'["' + line[2:12] + b'"]')
    return [kinds[i % len(kinds)] for i in range(count)]


@contextmanager
def _gzip(path: Path) -> Iterator[gzip.GzipFile]:
    """A .gz whose bytes hold no time and no name; it gets its own name only when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
