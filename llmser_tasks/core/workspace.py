"""Where artefacts live: one folder per step and fingerprint, written whole or not at all.

`ROOT/DATASET/STEP/FINGERPRINT/` holds a step's files and `manifest.json`. The fingerprint covers what the step
depends on: the *content* of its inputs, the effective values of the settings that matter to it, its seed and the code
that it can reach (`reachable`). If the manifest exists and the files match it, the step is skipped. Because
inputs count by content, a step whose inputs come out byte-identical (training histories, when only test items changed,
say) is skipped too.

The device that a model was trained on, and the number of threads and processes, are not part of the fingerprint: they
change the last digits, and a run must not train again because it goes on elsewhere. Each training's summary has them.
"""

from __future__ import annotations

import errno
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmser_tasks import __version__
from llmser_tasks.core import attempts, manifest, reachable
from llmser_tasks.core.attempts import Claims, Unclaimed
from llmser_tasks.core.config import digest
from llmser_tasks.core.errors import LlmserError, StorageError
from llmser_tasks.core.manifest import DATA_SUFFIXES, MANIFEST, file_digest, write_json
from llmser_tasks.core.reachable import Reach
from llmser_tasks.core.refused_writes import refusal
from llmser_tasks.core.section import Section

__all__ = ["DATA_SUFFIXES", "MANIFEST", "Artefact", "Workspace", "file_digest", "write_json"]

log = logging.getLogger(__name__)

DAMAGED = ".damaged-"


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


@dataclass(frozen=True)
class Workspace:
    """The artefact store below one local folder.

    Attributes:
        claims: who makes what, across all machines that share the folder.
    """

    root: Path
    claims: Claims = field(default_factory=Unclaimed)

    def folder(self, artefact: Artefact) -> Path:
        """Folder of a finished artefact.

        Raises:
            StorageError: it is gone or damaged, so what made it must run again.
        """
        folder = self.root / artefact.path
        if not (folder / MANIFEST).is_file():
            raise StorageError(
                f"Artefact {artefact.path} is missing below {self.root}; rerun the step {artefact.step}."
            )
        _, wrong = self._looked_at(folder)
        if wrong is not None:
            raise StorageError(
                f"Artefact {artefact.path} below {self.root} was damaged ({wrong}) and is set aside; "
                f"rerun the step {artefact.step}, which makes it again."
            )
        return folder

    def manifest(self, artefact: Artefact) -> dict[str, Any]:
        made = manifest.read(self.folder(artefact))
        assert made is not None, "it was read a moment ago"
        return made

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
        chosen: Sequence[str] = (),
        seed: int | None = None,
        resumable: bool = False,
    ) -> Artefact:
        """Run `write(folder)` unless its result is there; return the artefact.

        The code that the result depends on is what the module of `write`, and the one that calls this, import.

        Args:
            step: name of the folder; may hold one slash ("base/42").
            write: fills the folder it is given and returns a small JSON-ready summary. With `resumable` the folder
                may still hold what a killed attempt left there.
            inputs: artefacts read, or content hashes of files outside the workspace.
            config: the settings that change the result, JSON-ready; of a section of the configuration only those count
                that the code reads.
            chosen: modules that a setting chooses by name (`reachable.chosen`).

        Raises:
            StorageError: the disk is full or not writable.
        """
        roots = {write.__module__, sys._getframe(1).f_globals["__name__"], *chosen}
        reach = reachable.sources().reach(roots)
        basis = basis_of(step, reach, inputs=inputs, config=config, seed=seed)
        final = self.root / dataset / step / digest(basis)[:20]
        if (found := self._found(step, final)) is not None:
            return found
        with self._told(step, final.parent):
            final.parent.mkdir(parents=True, exist_ok=True)
            with (
                self.claims.claim(self._relative(final)) as claim,
                attempts.attempt(final, claim, resumable=resumable) as folder,
            ):
                if folder is not None:
                    started = time.monotonic()
                    try:
                        with reachable.within(reach):
                            summary = write(folder)
                    except Exception as error:
                        if not folder.is_dir():
                            raise self._taken_over(final) from error
                        raise
                    self._publish(folder, final, basis, summary, time.monotonic() - started)
        made = self._found(step, final, unchanged=folder is None)
        if made is None:
            raise StorageError(f"{step} was made below {final.parent} and is gone or damaged again; check that disk.")
        return made

    def damage(self) -> Iterator[tuple[str, str | None]]:
        """Every finished artefact by its path below the root, and what is wrong with it (None: nothing). All bytes are
        read; nothing is changed.
        """
        for path in sorted(self.root.rglob(MANIFEST)):
            folder = path.parent
            if not any(part.startswith(".") for part in folder.relative_to(self.root).parts):
                try:
                    _, wrong = manifest.looked_at(folder, thoroughly=True)
                except OSError as error:
                    wrong = f"cannot be read ({error.strerror})"
                yield self._relative(folder), wrong

    def _found(self, step: str, final: Path, *, unchanged: bool = True) -> Artefact | None:
        """What is there already, in good order."""
        made, _ = self._looked_at(final)
        if made is None:
            return None
        relative = self._relative(final)
        if unchanged:
            log.info("%s is unchanged: skipped (%s)", step, relative)
        return Artefact(step, relative, made["content"], unchanged)

    def _looked_at(self, folder: Path) -> tuple[dict[str, Any] | None, str | None]:
        """The manifest if the folder's files match it, else what is wrong with them; neither if there is no folder.
        A damaged one is set aside, for people to look at.

        Raises:
            StorageError: it cannot be read just now.
        """
        try:
            if not folder.exists():
                return None, None
            made, wrong = manifest.looked_at(folder)
        except OSError as error:
            raise StorageError(
                f"Artefact {self._relative(folder)} cannot be read ({error.strerror}); "
                f"check {self.root} and its permissions, then rerun."
            ) from error
        if wrong is None:
            return made, None
        aside = folder.with_name(f"{DAMAGED}{folder.name}-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}")
        try:
            folder.rename(aside)
        except FileNotFoundError:  # somebody else has noticed it too
            return None, wrong
        except OSError as error:
            raise StorageError(
                f"Artefact {self._relative(folder)} is damaged ({wrong}) and cannot be set aside ({error.strerror}); "
                f"delete {folder}, then rerun."
            ) from error
        log.warning(
            "Artefact %s is damaged: %s. It was set aside as %s and is made again when its step runs.",
            self._relative(folder), wrong, aside,
        )  # fmt: skip
        return None, wrong

    def _publish(
        self, folder: Path, final: Path, basis: Mapping[str, Any], summary: Mapping[str, Any], seconds: float
    ) -> None:
        """Data first, then the folder, then the manifest, then the name: after a power cut all of it is there, or it
        is not used.

        Raises:
            StorageError: another process took the attempt over.
        """
        if not folder.is_dir():
            raise self._taken_over(final)
        files = manifest.measured(folder)
        manifest.persist(folder)
        facts = {"content": manifest.content(files), "files": files, "summary": summary}
        write_json(folder / MANIFEST, {**basis, **facts, "version": __version__, "seconds": round(seconds, 3)})
        manifest.persist_name(folder / MANIFEST, folder)
        try:
            folder.rename(final)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            log.info("Another process has made %s meanwhile; its result is kept.", self._relative(final))
        manifest.persist_name(final, self.root)

    def _taken_over(self, final: Path) -> StorageError:
        return StorageError(
            f"Another process went on with {self._relative(final)}, taking this one for dead (was Postgres away?); "
            "rerun the step: it waits for what the other one makes, or finds it."
        )

    @contextmanager
    def _told(self, step: str, parent: Path) -> Iterator[None]:
        """Say what keeps a step from being written, whichever library found out."""
        try:
            yield
        except LlmserError:
            raise
        except Exception as error:
            why = refusal(error)
            if why is None:
                raise
            raise StorageError(
                f"Cannot write {step} below {parent}: {why}; "
                "free space or fix the permissions, then rerun: nothing half-written is used."
            ) from error

    def _relative(self, folder: Path) -> str:
        return str(folder.relative_to(self.root))


def basis_of(
    step: str,
    reach: Reach,
    *,
    inputs: Mapping[str, Artefact | str],
    config: Mapping[str, Any],
    seed: int | None,
) -> dict[str, Any]:
    """Everything that a step's result depends on, JSON-ready; its digest is the fingerprint."""
    return {
        "step": step,
        "inputs": {name: i if isinstance(i, str) else i.content for name, i in sorted(inputs.items())},
        "config": {
            name: value.resolved(reach.reads) if isinstance(value, Section) else value for name, value in config.items()
        },
        "seed": seed,
        "code": reach.digests,
    }
