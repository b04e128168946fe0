"""What a training is given and what it gives back, in a form that can also be handed to other processes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.workspace import file_digest
from llmser_tasks.recommenders.loop.checkpoints import WEIGHTS
from llmser_tasks.sequences.histories import Histories

SETTINGS = "job.json"
ARRAYS = "job.safetensors"


@dataclass(frozen=True)
class Watch:
    """What early stopping looks at: full-ranking NDCG@10 of known next items.

    Attributes:
        contexts: the sequences a model is shown, one row per watched user.
        targets: (len(contexts),) the item that came next.
        exclude: items a user is not asked about, usually the history; never the target.
    """

    contexts: Histories
    targets: NDArray[np.int32]
    exclude: Histories

    @classmethod
    def of(cls, contexts: Histories, targets: NDArray[np.int32], exclude: Histories) -> Watch:
        """Those of these users whose item is new to them; all three have the same rows.

        Of what is excluded, an item that somebody had before would be the only one left to rank, and so give itself
        away.
        """
        new = ~exclude.hold(targets)
        return cls(contexts.select(new), targets[new], exclude.select(new))


@dataclass(frozen=True)
class TrainingSummary:
    """What a training did.

    Attributes:
        epochs: epochs run, over all attempts.
        best_epoch: the epoch (from 1) whose weights were kept; 0: the earlier model's that it began with.
        ndcg: its NDCG@10 on the watch, NaN-free: 0 where nothing was watched.
        users: users that taught something.
        seconds: wall seconds over all attempts.
        threads: CPU threads used, over all processes.
        device: "cpu" or "cuda".
    """

    epochs: int
    best_epoch: int
    ndcg: float
    users: int
    seconds: float
    threads: int
    device: str


@dataclass(frozen=True)
class Job:
    """The arguments of `train`, which says what they mean; `device` is settled ("cpu", "cuda" or "cuda:1")."""

    config: Recommender
    histories: Histories
    items: int
    seed: int
    folder: Path
    device: str
    watch: Watch
    enhanced: Histories | None = None
    alpha: NDArray[np.float64] | None = None
    context: NDArray[np.int64] | None = None
    start_from: Path | None = None
    old_rows: NDArray[np.int64] | None = None

    @property
    def signature(self) -> str:
        """Digest of all that a training depends on, so that a checkpoint is never continued on other data.

        The number of processes is none of it: a training may go on with more or fewer.
        """
        start = file_digest(self.start_from / WEIGHTS) if self.start_from else ""
        settings = f"{self.config.model_dump_json()} {self.items} {self.seed} {self.device} {start}"
        digest = hashlib.sha256(settings.encode())
        for name, values in self._arrays().items():
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Keep it in `folder`, for `read` in another process."""
        save_file(self._arrays(), folder / ARRAYS)
        settings = {
            "config": self.config.model_dump(mode="json"),
            "items": self.items,
            "seed": self.seed,
            "folder": str(self.folder.absolute()),
            "device": self.device,
            "start_from": str(self.start_from.absolute()) if self.start_from else None,
        }
        (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job that was written to `folder`."""
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)

        def sequences(name: str) -> Histories:
            return Histories(*(arrays[f"{name}.{field.name}"] for field in fields(Histories)))

        return cls(
            config=Recommender.model_validate(settings["config"]),
            histories=sequences("histories"),
            items=settings["items"],
            seed=settings["seed"],
            folder=Path(settings["folder"]),
            device=settings["device"],
            watch=Watch(sequences("contexts"), arrays["targets"], sequences("exclude")),
            enhanced=sequences("enhanced") if "enhanced.users" in arrays else None,
            alpha=arrays.get("alpha"),
            context=arrays.get("context"),
            start_from=Path(settings["start_from"]) if settings["start_from"] else None,
            old_rows=arrays.get("old_rows"),
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that is an array, by name; what is None is left out."""
        several = {
            "histories": self.histories,
            "contexts": self.watch.contexts,
            "exclude": self.watch.exclude,
            "enhanced": self.enhanced,
        }
        arrays: dict[str, NDArray[np.generic] | None] = {
            f"{name}.{field.name}": getattr(sequences, field.name)
            for name, sequences in several.items()
            if sequences is not None
            for field in fields(Histories)
        }
        arrays |= {
            "targets": self.watch.targets,
            "alpha": self.alpha,
            "context": self.context,
            "old_rows": self.old_rows,
        }
        return {name: np.ascontiguousarray(values) for name, values in arrays.items() if values is not None}
