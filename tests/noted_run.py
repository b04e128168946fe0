"""The small evaluated run, noted in a warehouse as its steps would have."""

from __future__ import annotations

from evaluated_world import Trained

from llmser_tasks.core.config import RunConfig, to_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import runs, steps


def changed(trained: Trained, section: str, **values: object) -> RunConfig:
    """The run's settings with some of one section changed."""
    part = getattr(trained.config, section).model_copy(update=values)
    return trained.config.model_copy(update={section: part})


def artefacts(trained: Trained, config: RunConfig | None = None, **other: Artefact) -> dict[str, Artefact]:
    """What the steps of a run with these settings make; `other` takes the place of what they are given."""
    return trained.made | other | {"evaluation": trained.evaluated(config, **other)}


def note_run(
    warehouse: Warehouse, trained: Trained, run_id: str, config: RunConfig | None = None, **other: Artefact
) -> None:
    runs.create(warehouse, run_id, "tiny", to_flat(config or trained.config))
    with steps.recorded(warehouse, run_id, "evaluation") as recorder:
        made = artefacts(trained, config, **other)
        recorder.artefacts({name: artefact.reference() for name, artefact in made.items()})
    with transaction(warehouse) as connection:
        runs.finish(connection, run_id)
