"""The artefacts of a run, as its steps noted them, so that they can be found when the run is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import MANIFEST, Artefact, Workspace
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables.runs import RunRow


def of_run(warehouse: Warehouse, run_id: str) -> dict[str, Artefact]:
    """Name → artefact of everything that finished steps of a run made or found there."""
    statement = text("select artefacts from steps where run_id = :run and artefacts is not null")
    with transaction(warehouse) as connection:
        noted = connection.scalars(statement, {"run": run_id}).all()
    return {name: Artefact(**reference) for made in noted for name, reference in made.items()}


@dataclass(frozen=True)
class StoredRun:
    """A run as it is stored: its row and its artefacts."""

    row: RunRow
    made: Mapping[str, Artefact]
    workspace: Workspace

    @classmethod
    def of(cls, warehouse: Warehouse, row: RunRow, workspace: Workspace) -> StoredRun:
        return cls(row, of_run(warehouse, row.run_id), workspace)

    @property
    def chosen(self) -> str:
        """The method whose recommendations the run has.

        Raises:
            InputError, StorageError: as `folder`.
        """
        return str(
            self.summary("evaluation").get("chosen") or self.row.chosen
        )  # runs that chose none had it noted later

    def artefact(self, name: str) -> Artefact:
        """A reference by its name: "training", "evaluation", "base/42", …

        Raises:
            InputError: the run has not come so far, or is older than the record of artefacts.
        """
        if name not in self.made:
            why = "it was made before runs noted their artefacts" if self.row.state == "succeeded" else self.row.state
            raise InputError(
                f"Run {self.row.run_id} has no artefact {name} ({why}); "
                "finish it, or start its settings again: what is unchanged is skipped."
            )
        return self.made[name]

    def summary(self, name: str) -> dict[str, Any]:
        """What the step that made an artefact returned.

        Raises:
            InputError, StorageError: as `folder`.
        """
        self.folder(name)
        return self.workspace.summary(self.artefact(name))

    def folder(self, name: str) -> Path:
        """Folder of an artefact.

        Raises:
            InputError: as `artefact`.
            StorageError: it has been deleted, lies elsewhere, or is damaged.
        """
        artefact = self.artefact(name)
        if not (self.workspace.root / artefact.path / MANIFEST).is_file():
            raise StorageError(
                f"Run {self.row.run_id}'s {name} is gone from {self.workspace.root / artefact.path}; "
                "start its settings again, or set LLMSER_ARTEFACTS to the folder that holds it."
            )
        return self.workspace.folder(artefact)
