"""Where artefacts live: one folder per step and fingerprint, written whole or not at all.

`ROOT/DATASET/STEP/FINGERPRINT/` holds a step's files and `manifest.json`. The fingerprint covers what the step
depends on: the *content* of its inputs, the settings that matter to it, its seed and the source of its package. Where
the manifest exists the step is skipped. Because inputs count by content, a step whose inputs come out byte-identical
(training histories, when only test items changed, say) is skipped too.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmser_tasks import __version__
from llmser_tasks.config import digest
from llmser_tasks.errors import StorageError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DATA_SUFFIXES = {".parquet", ".safetensors"}  # what a content hash covers; logs and reports hold times


@dataclass(frozen=True)
class Artefact:
    """A reference to a finished folder: small enough to travel between tasks.

    Attributes:
        path: folder, relative to the workspace's root.
        content: sha256 over the data files' names and bytes.
        unchanged: the folder was there already, so the step was skipped.
    """

    step: str
    path: str
    content: str
    unchanged: bool = False

    def reference(self) -> dict[str, Any]:
        return asdict(self)


class Workspace:
    """The artefact store below one local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, artefact: Artefact) -> Path:
        """Folder of a finished artefact.

        Raises:
            StorageError: it is gone, so what made it must run again.
        """
        folder = self.root / artefact.path
        if not (folder / MANIFEST).is_file():
            raise StorageError(
                f"Artefact {artefact.path} is missing below {self.root}; rerun the step {artefact.step}."
            )
        return folder

    def manifest(self, artefact: Artefact) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder(artefact) / MANIFEST).read_text(encoding="utf-8"))
        return loaded

    def summary(self, artefact: Artefact) -> dict[str, Any]:
        """The small facts the step returned when it ran."""
        summary: dict[str, Any] = self.manifest(artefact)["summary"]
        return summary

    def produce(
        self,
        step: str,
        dataset: str,
        write: Callable[[Path], dict[str, Any]],
        *,
        inputs: Mapping[str, Artefact | str],
        config: Mapping[str, Any],
        packages: tuple[str, ...],
        seed: int | None = None,
        resumable: bool = False,
    ) -> Artefact:
        """Run `write(folder)` unless its result is there; return the artefact.

        Args:
            step: name of the folder; may hold one slash ("base/42").
            write: fills the folder it is given and returns a small JSON-ready summary. With `resumable` the folder
                may still hold what a killed attempt left there.
            inputs: artefacts read, or content hashes of files outside the workspace.
            config: the settings that change the result, JSON-ready.
            packages: packages whose source the result depends on.

        Raises:
            StorageError: the disk is full or not writable.
        """
        basis = {
            "step": step,
            "inputs": {name: i if isinstance(i, str) else i.content for name, i in sorted(inputs.items())},
            "config": dict(config),
            "seed": seed,
            "code": {package: source_digest(package) for package in packages},
        }
        fingerprint = digest(basis)[:20]
        parent = self.root / dataset / step
        final = parent / fingerprint
        relative = str(final.relative_to(self.root))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _locked(parent / f".lock-{fingerprint}"):
                if (final / MANIFEST).is_file():
                    content = json.loads((final / MANIFEST).read_text(encoding="utf-8"))["content"]
                    log.info("%s is unchanged: skipped (%s)", step, relative)
                    return Artefact(step, relative, content, unchanged=True)
                partial = parent / f".partial-{fingerprint}"
                if partial.exists() and not resumable:
                    shutil.rmtree(partial)
                partial.mkdir(exist_ok=True)
                started = time.monotonic()
                try:
                    summary = write(partial)
                except BaseException:
                    if not resumable:  # what a failure leaves is of no use, and may be what fills the disk
                        shutil.rmtree(partial, ignore_errors=True)
                    raise
                content = content_digest(partial)
                write_json(
                    partial / MANIFEST,
                    basis
                    | {
                        "content": content,
                        "summary": summary,
                        "version": __version__,
                        "seconds": round(time.monotonic() - started, 3),
                    },
                )
                partial.rename(final)
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise
            raise StorageError(
                f"Cannot write {step} below {parent}: {error.strerror or error}; "
                "free space or fix the permissions, then rerun: nothing half-written is used."
            ) from error
        return Artefact(step, relative, content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(folder: Path) -> str:
    """sha256 over names and bytes of the data files of a folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in DATA_SUFFIXES and not p.name.startswith("."))
    return digest([[str(p.relative_to(folder)), file_digest(p)] for p in files])


@cache
def source_digest(package: str) -> str:
    """sha256 over a package's (or module's) own .py files, so that changed code never passes for unchanged."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, package
    origin = Path(spec.origin)
    files = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]
    return digest([[p.name, file_digest(p)] for p in files])[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; the kernel releases it when the process dies, however it dies."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
