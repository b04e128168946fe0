"""What a trained model is good for once its run is over: recommending to anyone, and leaving as files."""

from __future__ import annotations

from llmser_tasks.core.kinds import METHODS
from llmser_tasks.warehouse.tables.artefacts import Kept

TRAINED = [name for name, method in METHODS.items() if method.trained]


def artefact_name(kept: Kept, model: str) -> str:
    """Name of a run's trained model among its artefacts: that of the run's first seed."""
    return f"{METHODS[model].trained}/{kept.row.config['seeds'][0]}"
