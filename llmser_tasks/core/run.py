"""A run as its steps see it, and the artefacts that it has so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact, Workspace

Reference = dict[str, Any]
Refs = Mapping[str, Reference]  # name → `Artefact.reference()`
Made = dict[str, Reference]


def _nowhere(name: str) -> Any:
    raise InputError(f"The connection {name} is needed here, and nobody has said where connections are looked up.")


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        refreshes: the run that it starts from.
        aside: it has other settings than the run of its id, to try what comes of them: steps write artefacts for it,
            and no rows into Postgres, where those of the run's own settings stay.
        endpoint_of: name of a connection → `llm.endpoint.Endpoint`; raises InputError where there is none.
    """

    run_id: str
    config: RunConfig
    workspace: Workspace
    warehouse: Warehouse
    refreshes: str | None = None
    endpoint_of: Callable[[str], Any] = field(default=_nowhere, compare=False)
    aside: bool = False

    @property
    def dataset(self) -> str:
        return self.config.dataset.name

    def folder(self, refs: Refs, name: str) -> Path:
        """Of a finished artefact.

        Raises:
            InputError: it has not been made yet.
            StorageError: it is gone or damaged.
        """
        return self.workspace.folder(artefact(refs, name))


def artefact(refs: Refs, name: str) -> Artefact:
    """
    Raises:
        InputError: it has not been made yet.
    """
    if name not in refs:
        raise InputError(f"The artefact {name} has not been made yet; run the step that makes it first.")
    return Artefact(**refs[name])


def model_name(method: str, seed: int) -> str:
    """What a trained model is called among a run's artefacts."""
    return f"{method}/{seed}"


def left_out(step: Any, config: RunConfig) -> str | None:
    """The part that a run is without and that leaves a step's file (`STEPS.load`) nothing to do; None: it has something
    to do, as one has that says nothing of it."""
    says: Callable[[RunConfig], str | None] | None = getattr(step, "left_out", None)
    return says(config) if says else None
