"""The small evaluated run, as a run that is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated_world import Trained, trained
from noted_run import note_run

from llmser_tasks.core.handle import Warehouse

__all__ = ["noted", "trained"]


@pytest.fixture
def noted(trained: Trained, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A warehouse with the run `first`; the command line finds its artefacts."""
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    monkeypatch.setenv("LLMSER_ARTEFACTS", str(trained.workspace.root))
    monkeypatch.setenv("LLMSER_THREADS", "1")
    note_run(warehouse, trained, "first")
    return warehouse
