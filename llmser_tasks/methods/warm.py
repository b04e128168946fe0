"""Trainings of a refresh: they go on from the earlier run's model, with rows for the items that are new.

Early stopping watches only targets that neither training saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core import config
from llmser_tasks.core.kinds import ITEM_TABLES, TERMS
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.held_out import HELD, share_of_users, still_held
from llmser_tasks.recommenders.load import modules_in, modules_of
from llmser_tasks.sequences.changes import Changes, EarlierRun
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Start:
    """A model to go on from, and what has changed since.

    Attributes:
        nothing_new: training histories and catalogue are what they were.
        inputs: what the model was made from, by name: its content.
    """

    model: Artefact
    folder: Path
    earlier: EarlierRun
    changes: Changes
    nothing_new: bool
    inputs: Mapping[str, str]


def start(workspace: Workspace, earlier: EarlierRun | None, name: str) -> Start | None:
    """The earlier run's model of this name; None where there is none, or no refresh."""
    if earlier is None or name not in earlier.made:
        return None
    made = earlier.made[name]
    given = workspace.manifest(earlier.changes)["inputs"]
    nothing_new = all(given[what] == given[f"former_{what}"] for what in ("training", "catalogue"))
    changes, inputs = Changes.read(workspace.folder(earlier.changes)), workspace.manifest(made)["inputs"]
    return Start(made, workspace.folder(made), earlier, changes, nothing_new, inputs)


def as_it_was(start: Start | None, **present: Artefact) -> Artefact | None:
    """The earlier model itself, if there is nothing to learn: more epochs on what it knows would not make it better.
    None if there is.

    Args:
        present: what the training depends on besides histories and catalogue, by its name among the run's artefacts.
    """
    if start is None or not start.nothing_new:
        return None
    same = all(start.inputs.get(name) == artefact.content for name, artefact in present.items())
    return replace(start.model, unchanged=True) if same else None


def shortened(recommender: config.Recommender, start: Start | None) -> config.Recommender:
    """The settings of a training that goes on: fewer epochs are enough."""
    if start is None:
        return recommender
    return recommender.model_copy(update={"epochs": min(recommender.epochs, start.earlier.warm_epochs)})


def inputs(start: Start | None) -> dict[str, Artefact]:
    """What such a training depends on besides its data."""
    return {"changes": start.earlier.changes, "start": start.model} if start else {}


def modules(
    recommender: config.Recommender, start: Start | None, terms: Sequence[str] = (), item_table: str = ""
) -> list[str]:
    """The modules that a training chooses by name: the model that it makes, the one it begins with, loss and terms.

    Args:
        terms: besides next items.
        item_table: empty: the usual one.
    """
    chosen = modules_of(recommender, [TERMS.default, *terms], item_table or ITEM_TABLES.default)
    return chosen + (modules_in(start.folder) if start else [])


def arguments(start: Start | None) -> dict[str, Any]:
    """Where it begins, as arguments for `recommenders.train`."""
    return {"start_from": start.folder, "old_rows": start.changes.former_items} if start else {}


def held_out(histories: Histories, share: float, seed: int, start: Start | None) -> NDArray[np.bool_]:
    """(U,) whose item is kept out of a training: a seeded share of users, in a refresh the same ones as before."""
    if start is None:
        return share_of_users(histories, share, seed)
    return still_held(histories, start.changes, start.folder / HELD, share, seed)
