"""Methods that train a model: what their files have, and the training that they share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.warm import Start
from llmser_tasks.recommenders import Watch
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import former_of, may_go_on
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets


@dataclass(frozen=True)
class Lessons:
    """What a model is taught beside each S_u.

    Attributes:
        enhanced: (U) a second sequence of every user, None: no user has one.
        alpha: (U,) its weight, which S_u loses.
        context: (U,) how many of its first items are shown and never asked for; None: all are asked for.
        start_from: folder of a model of the same architecture and catalogue that the training begins with, unless a
            refresh goes on from an earlier one.
    """

    enhanced: Histories | None = None
    alpha: NDArray[np.float64] | None = None
    context: NDArray[np.int64] | None = None
    start_from: Path | None = None


class TrainedModule(Protocol):
    """What the file of a method that trains has."""

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Settings that matter to its training beside the recommender's own."""

    def lessons(self, run: Run, refs: Refs, histories: Histories) -> Lessons:
        """What it trains on beside S_u, the histories."""

    def prior(self, run: Run, refs: Refs) -> Histories:
        """What stands before a user's own items wherever a model of it is shown them; users without have nothing."""


def train(run: Run, refs: Refs, method: str, seed: int, progress: Progress = silent) -> Artefact:
    """Train a method's model, early stopping on validation targets; in a refresh, go on from the earlier one."""
    module: TrainedModule = METHODS.load(method)
    needed = {name: artefact(refs, name) for name in METHODS[method].needs}
    validation = artefact(refs, "validation")
    start = _earlier(run, refs, model_name(method, seed))
    if same := warm.as_it_was(start, validation=validation, **needed):
        return same
    recommender = warm.shortened(run.config.recommender, start)
    items = catalogue_size(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.open(run, refs)
        taught = module.lessons(run, refs, histories)
        begins = warm.arguments(start) or {"start_from": taught.start_from}
        summary = recommenders.train(
            recommender,
            histories,
            items,
            seed,
            folder,
            watch=_watch(run, refs, histories.after(module.prior(run, refs)), histories),
            enhanced=taught.enhanced,
            alpha=taught.alpha,
            context=taught.context,
            progress=progress,
            **begins,
        )
        return asdict(summary)

    return run.workspace.produce(
        model_name(method, seed),
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training"), "validation": validation} | needed | warm.inputs(start),
        config={"recommender": recommender, "items": items} | module.settings(run.config),
        chosen=[METHODS.module_of(method), *warm.modules(recommender, start)],
        seed=seed,
        resumable=True,
    )


def _earlier(run: Run, refs: Refs, name: str) -> Start | None:
    """The earlier run's model of this name, which must not have been chosen by what is a test item now; None where
    there is none, or no refresh.
    """
    former = former_of(run, refs)
    if former is None or name not in former.made:
        return None
    given = {part: artefact(refs, part) for part in ("catalogue", "training", "validation")}
    return warm.start(run.workspace, former, name) if may_go_on(run.workspace, former, **given) else None


def _watch(run: Run, refs: Refs, shown: Histories, owned: Histories) -> Watch:
    """Validation targets behind the sequences that are shown; only what a user really owned is excluded."""
    targets = read_targets(run.folder(refs, "validation") / "targets.parquet")
    return Watch.of(targets.inputs(shown), targets.items, exclude=targets.inputs(owned))
