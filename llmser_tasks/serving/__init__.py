"""What a trained model is good for once its run is over: recommending to anyone, and leaving as files."""

from __future__ import annotations

from llmser_tasks.core.run import model_name
from llmser_tasks.warehouse.tables.artefacts import Kept


def artefact_name(kept: Kept, method: str | None = None) -> str:
    """Name of a method's model among a run's artefacts, that of the run's first seed; None: of the chosen method."""
    return model_name(method or kept.chosen, kept.row.config["seeds"][0])
