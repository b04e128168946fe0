"""What a finished artefact's manifest says about its files, and whether it is still true.

Sizes are compared whenever an artefact is looked at, which costs next to nothing. Digests are compared once a process
where that takes a fraction of a second, and of all artefacts by `llmser doctor`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmser_tasks.core.config import digest

MANIFEST = "manifest.json"
DATA_SUFFIXES = {".parquet", ".safetensors"}  # what a content hash covers; logs and reports hold times
CHEAP = 64 << 20  # bytes: digests of artefacts up to this size are checked whenever a process opens one

Files = dict[str, dict[str, Any]]

_seen: set[tuple[str, str]] = set()  # folders of which this process has compared digests


def measured(folder: Path) -> Files:
    """Size and sha256 of each file, by its path in the folder; hidden ones are nobody's result."""
    return {
        name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for name, path in sorted((str(path.relative_to(folder)), path) for path in _files(folder))
    }


def content(files: Files) -> str:
    """sha256 over names and bytes of the data files."""
    names = sorted(Path(name) for name in files if Path(name).suffix in DATA_SUFFIXES)
    return digest([[str(name), files[str(name)]["sha256"]] for name in names])


def looked_at(folder: Path, *, thoroughly: bool = False) -> tuple[dict[str, Any] | None, str | None]:
    """The manifest if the folder's files match it; else what is wrong, in a few words.

    Args:
        thoroughly: compare digests, however large the files are.

    Raises:
        OSError: something cannot be read, which says nothing of what it holds.
    """
    manifest = read(folder)
    if manifest is None:
        return None, f"{MANIFEST} is missing or no manifest"
    wrong = _damage(folder, manifest, thoroughly)
    return (None, wrong) if wrong else (manifest, None)


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest; None where there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and {"content", "summary"} <= manifest.keys() else None


def persist(folder: Path) -> None:
    """Make a folder's files survive a power cut, then the folder that names them."""
    for path in _files(folder):
        sync(path)
    for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        sync(below)
    sync(folder)


def persist_name(path: Path, root: Path) -> None:
    """Make the name of a file or folder survive a power cut, and those of the folders that it lies in up to `root`."""
    for folder in path.parents:
        sync(folder)
        if folder == root:
            break


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path != folder / MANIFEST:
            yield path


def _damage(folder: Path, manifest: Mapping[str, Any], thoroughly: bool) -> str | None:
    """What is wrong with a folder's files; None: they match its manifest."""
    files: Files = manifest.get("files", {})  # earlier releases noted none
    for name, noted in files.items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if size != noted["bytes"]:
            return f"{name} has {size:,} bytes instead of {noted['bytes']:,}"
    seen = str(folder), str(manifest["content"])
    if not thoroughly and (seen in _seen or sum(noted["bytes"] for noted in files.values()) > CHEAP):
        return None
    for name, noted in files.items():
        if file_digest(folder / name) != noted["sha256"]:
            return f"{name} does not hold what was written"
    _seen.add(seen)
    return None


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
