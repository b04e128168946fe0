"""What a training is given and what it gives back, in a form that can also be handed to other processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.core.workspace import file_digest
from llmser_tasks.recommenders.features import Features
from llmser_tasks.recommenders.load import read_description
from llmser_tasks.recommenders.loop.checkpoints import WEIGHTS
from llmser_tasks.recommenders.loop.early_stopping import Watch
from llmser_tasks.recommenders.terms.term import WeightedTerm
from llmser_tasks.sequences.histories import Histories

SETTINGS = "training.json"
ARRAYS = "training.safetensors"
FEATURE = "feature."

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TrainingSummary:
    """What a training did.

    Attributes:
        epochs: epochs run, over all attempts.
        best_epoch: the epoch (from 1) whose weights were kept; 0: the earlier model's that it began with.
        ndcg: its NDCG@10 on the watch, NaN-free: 0 where nothing was watched.
        users: users who taught something.
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
class TrainingInputs:
    """The arguments of `train`, which says what they mean; `device` is settled ("cpu", "cuda" or "cuda:1")."""

    config: Recommender
    terms: Sequence[WeightedTerm]
    items: int
    seed: int
    folder: Path
    device: str
    watch: Watch
    item_table: str = ITEM_TABLES.default
    table_without: Sequence[str] = ()
    features: Features = field(default_factory=dict)
    start_from: Path | None = None
    old_rows: NDArray[np.int64] | None = None

    @property
    def marks(self) -> bool:
        """Whether the model is shown marked items, or goes on from one that was."""
        shown = [*(term.sequences for term in self.terms), self.watch.contexts]
        return any(each.any_marked for each in shown) or (
            self.start_from is not None and read_description(self.start_from).marks
        )

    @property
    def term_names(self) -> list[str]:
        return [term.name for term in self.terms]

    @property
    def signature(self) -> str:
        """Digest of all that a training depends on, so that a checkpoint is never continued on other data.

        The number of processes does not count: a training may go on with more or fewer.
        """
        start = file_digest(self.start_from / WEIGHTS) if self.start_from else ""
        terms = " ".join(self.term_names)
        settings = f"{self.config.model_dump_json()} {self.items} {self.seed} {self.device} {start}"
        digest = hashlib.sha256(f"{settings} {self.item_table} {terms}".encode())
        digest.update(" ".join(sorted(self.table_without)).encode())
        for name, values in self._arrays().items():
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Keep them in `folder`, for `read` in another process."""
        save_file(self._arrays(), folder / ARRAYS)
        settings = {
            "config": self.config.model_dump(mode="json"),
            "terms": self.term_names,
            "items": self.items,
            "seed": self.seed,
            "folder": str(self.folder.absolute()),
            "device": self.device,
            "item_table": self.item_table,
            "table_without": list(self.table_without),
            "start_from": str(self.start_from.absolute()) if self.start_from else None,
        }
        (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> TrainingInputs:
        """The inputs that were written to `folder`."""
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
        return cls(
            config=Recommender.model_validate(settings["config"]),
            terms=[
                WeightedTerm(
                    _sequences(arrays, f"terms.{place}"),
                    arrays.get(f"terms.{place}.weights"),
                    arrays.get(f"terms.{place}.context"),
                    name,
                )
                for place, name in enumerate(settings["terms"])
            ],
            items=settings["items"],
            seed=settings["seed"],
            folder=Path(settings["folder"]),
            device=settings["device"],
            watch=Watch(_sequences(arrays, "contexts"), arrays["targets"], _sequences(arrays, "exclude")),
            item_table=settings["item_table"],
            table_without=settings["table_without"],
            features={
                name.removeprefix(FEATURE): values for name, values in arrays.items() if name.startswith(FEATURE)
            },
            start_from=Path(settings["start_from"]) if settings["start_from"] else None,
            old_rows=arrays.get("old_rows"),
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that is an array, by name; what is None is left out."""
        sequences = {f"terms.{place}": term.sequences for place, term in enumerate(self.terms)}
        sequences |= {"contexts": self.watch.contexts, "exclude": self.watch.exclude}
        arrays: dict[str, NDArray[np.generic] | None] = {
            f"{name}.{part.name}": getattr(histories, part.name)
            for name, histories in sequences.items()
            for part in fields(Histories)
        }
        for place, term in enumerate(self.terms):
            arrays |= {f"terms.{place}.weights": term.weights, f"terms.{place}.context": term.context}
        arrays |= {f"{FEATURE}{name}": values for name, values in sorted(self.features.items())}
        arrays |= {"targets": self.watch.targets, "old_rows": self.old_rows}
        return {name: np.ascontiguousarray(values) for name, values in arrays.items() if values is not None}


def _sequences(arrays: Arrays, name: str) -> Histories:
    return Histories(*(arrays[f"{name}.{part.name}"] for part in fields(Histories)))
