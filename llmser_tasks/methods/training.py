"""What the trainings of methods share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmser_tasks.core import config
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods import warm
from llmser_tasks.methods.warm import Start
from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.changes import Former, may_go_on
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets


def earlier(
    workspace: Workspace,
    former: Former | None,
    name: str,
    *,
    catalogue: Artefact,
    training: Artefact,
    validation: Artefact,
) -> Start | None:
    """The earlier run's model of this name ("base/42"), which must not have been chosen by what is a test item now;
    None where there is none, or no refresh.
    """
    if former is None or name not in former.made:
        return None
    unspoilt = may_go_on(workspace, former, catalogue=catalogue, training=training, validation=validation)
    return warm.start(workspace, former, name) if unspoilt else None


def watch(workspace: Workspace, validation: Artefact, shown: Histories, owned: Histories) -> Watch:
    """Validation targets behind the sequences that are shown; only what a user really owned is excluded."""
    targets = read_targets(workspace.folder(validation) / "targets.parquet")
    return Watch.of(targets.inputs(shown), targets.items, exclude=targets.inputs(owned))


def produce(
    workspace: Workspace,
    dataset: str,
    step: str,
    write: Callable[[Path], dict[str, Any]],
    inputs: dict[str, Artefact],
    switches: dict[str, Any],
    recommender: config.Recommender,
    start: Start | None,
    items: int,
    seed: int,
) -> Artefact:
    return workspace.produce(
        step,
        dataset,
        write,
        inputs=inputs,
        config={"recommender": recommender, "items": items} | switches,
        chosen=warm.modules(recommender, start),
        seed=seed,
        resumable=True,
    )
