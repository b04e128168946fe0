"""What a trained model is good for once its run is over: recommending to anyone, and leaving as files."""

from __future__ import annotations

from typing import Literal

from llmser_tasks.warehouse.artefacts import Kept

ModelName = Literal["base", "llmser"]
KINDS: dict[ModelName, str] = {"base": "base", "llmser": "weighted"}  # name in the tables → artefact


def artefact_name(kept: Kept, model: ModelName) -> str:
    """Name of a run's trained model among its artefacts: that of the run's first seed."""
    return f"{KINDS[model]}/{kept.row.config['seeds'][0]}"
