"""The inbox: what arrives for a dataset after its base dump, as files in a folder or below a bucket's prefix.

`INBOX/DATASET/` holds review lines, `INBOX/DATASET/items/` item lines, both in the dataset's own format. Files stay
where they are: they are part of the dataset, and whoever takes one away takes its interactions away.

Files count after the base dump, in order of their names, and once if they hold the same bytes, so it does not matter
when a file arrives, or how often. A file that may still be written is left for the next look: its name says so, it is
empty, or it was changed a moment ago. Links are not followed, other folders not entered.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llmser_tasks.core.config import digest
from llmser_tasks.core.errors import InputError, StorageError

REVIEWS, ITEMS = "", "items"  # folders below the dataset's
SETTLED_S = 10.0  # since its last change, after which nobody is still writing a file
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")  # ends of names
HIDDEN = (".", "_")  # their beginnings


@dataclass(frozen=True)
class Arrived:
    """A file in the inbox: its address, name, and a mark that differs once it was changed."""

    address: str
    name: str
    mark: str


def arrivals(inbox: str, dataset: str, folder: str = REVIEWS) -> list[Arrived]:
    """The dataset's settled files of one kind, in order of their names; none where nothing has ever arrived.

    Raises:
        InputError: a link leads out of it.
        StorageError: the inbox cannot be listed.
    """
    files, root = _open(inbox)
    place = "/".join(part for part in (root.rstrip("/"), dataset, folder) if part)
    if _is_local(files) and not Path(place).resolve().is_relative_to(Path(root).resolve()):
        raise InputError(f"The inbox {place} is a link that leads out of {root}; put the files themselves there.")
    try:
        found = files.ls(place, detail=True, refresh=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"The inbox {place} cannot be read: {error.strerror or error}.") from None
    kept = [entry for entry in found if _settled(entry)]
    arrived = [Arrived(entry["name"], _name(entry), digest([_name(entry), _mark(entry)])) for entry in kept]
    return sorted(arrived, key=lambda file: file.name)


def signature(inbox: str, dataset: str) -> str | None:
    """A word for what is in a dataset's inbox, which differs when anything in it does; None: it is empty."""
    marks = [[folder, file.mark] for folder in (REVIEWS, ITEMS) for file in arrivals(inbox, dataset, folder)]
    return digest(marks) if marks else None


def at_hand(inbox: str, dataset: str, folder: str, cache: Path) -> list[Path]:
    """The dataset's files of one kind as local files; those of a bucket are fetched, each once.

    Raises:
        StorageError: the inbox cannot be read, or the cache not written.
    """
    files, _ = _open(inbox)
    arrived = arrivals(inbox, dataset, folder)
    if _is_local(files):
        return [Path(file.address) for file in arrived]
    return [_fetched(files, file, cache / file.mark[:20] / file.name) for file in arrived]


def _open(inbox: str) -> tuple[Any, str]:
    """The file system of a folder or URL, and the path on it."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(inbox if "://" in inbox else str(Path(inbox).absolute()))
    except (ImportError, ValueError) as error:
        raise InputError(f"The inbox {inbox} cannot be opened: {error}.") from None
    return files, root


def _is_local(files: Any) -> bool:
    return "file" in ([files.protocol] if isinstance(files.protocol, str) else files.protocol)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]


def _settled(entry: dict[str, Any]) -> bool:
    name = _name(entry)
    if entry["type"] != "file" or not entry.get("size"):
        return False
    if name.startswith(HIDDEN) or name.lower().endswith(UNFINISHED):
        return False
    return time.time() - _changed(entry) >= SETTLED_S


def _mark(entry: dict[str, Any]) -> list[Any]:
    return [entry["size"], _changed(entry), str(entry.get("ETag", ""))]


def _changed(entry: dict[str, Any]) -> float:
    """Seconds since 1970 of the last change; 0 where the store does not say: there, files appear whole."""
    when = next((entry[key] for key in ("mtime", "LastModified", "last_modified", "updated") if entry.get(key)), 0.0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return when.timestamp() if isinstance(when, datetime) else float(when)


def _fetched(files: Any, file: Arrived, path: Path) -> Path:
    if path.is_file():
        return path
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.open(file.address, "rb") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{file.address} cannot be fetched from the inbox: {error.strerror or error}.") from None
    return path
