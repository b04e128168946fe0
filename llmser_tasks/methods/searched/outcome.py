"""What a search found, as its artefact holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import write_json
from llmser_tasks.methods.searched.space import Candidate

FILE = "search.json"


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        budget: as the settings say it.
        full: epochs of a full training, which are the reference's.
        listed: how many there were to try.
        tried: rows, the best first: place in the list, method, settings, remade, title, validation NDCG@10 (ndcg; of
            tail users tail_ndcg), epochs, best_epoch, how it ended.
        rungs: per rung its last epoch and how many were trained up to there.
        chosen: the place in the list.
        taken_over: an earlier run found it, which this one refreshes.
    """

    budget: str
    full: int
    listed: int
    tried: Sequence[Mapping[str, Any]]
    rungs: Sequence[Mapping[str, int]]
    chosen: int
    taken_over: bool = False

    @property
    def candidate(self) -> Candidate:
        """What was chosen."""
        row = next(row for row in self.tried if row["place"] == self.chosen)
        return Candidate(row["method"], row["settings"], tuple(row["remade"]))

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """
        Raises:
            StorageError: it is not there.
        """
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"{folder / FILE} cannot be read ({type(error).__name__}); run the step again."
            ) from error

    def summary(self) -> dict[str, Any]:
        """What people read of it, beside the step."""
        shown = ("title", "ndcg", "tail_ndcg", "epochs", "best_epoch", "how")
        rows = [{name: row[name] for name in shown} | {"chosen": row["place"] == self.chosen} for row in self.tried]
        epochs = sum(row["epochs"] for row in self.tried)
        reference = next(row["ndcg"] for row in self.tried if row["place"] == 0)
        said = {
            "budget": self.budget,
            "full": self.full,
            "listed": self.listed,
            "epochs": epochs,
            "reference": reference,
        }
        return said | {"taken_over": self.taken_over, "tried": rows}
