"""Methods that train a model: what their files have, and the training that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import ITEM_TABLES, METHODS, STEPS, ItemTable, Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.warm import Start
from llmser_tasks.recommenders import Watch, WeightedTerm
from llmser_tasks.recommenders.features import Features
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.changes import earlier_run, may_go_on
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets


@dataclass(frozen=True)
class Lessons:
    """What a model is taught.

    Attributes:
        terms: what is minimised, each with its sequences and weights.
        features: arrays that the item table and the terms are made from, by the names that these declare.
        start_from: folder of a model of the same architecture and catalogue that the training begins with, unless a
            refresh goes on from an earlier one.
        table_without: parts that are left out of the item table.
    """

    terms: Sequence[WeightedTerm]
    features: Features = field(default_factory=dict)
    start_from: Path | None = None
    table_without: Sequence[str] = ()


class TrainedModule(Protocol):
    """What the file of a method that trains has to have.

    One that comes after the reference may have, in the place of `lessons`,
    `finish(run, refs, reference: Artefact, into: Path, seed: int, progress: Progress) -> dict`, which makes its model
    of the reference's: it writes into the folder what `recommenders.train` does, and returns a summary with `ndcg`.
    Killed and called again, it goes on with what lies there.
    """

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Settings that matter to its training besides the recommender's own."""

    def lessons(self, run: Run, refs: Refs, histories: Histories) -> Lessons:
        """What it trains on; histories are S_u of all users."""

    def prior(self, run: Run, refs: Refs) -> Histories:
        """What comes before a user's own items wherever the method shows them to a model; users not in it have none."""


def train(run: Run, refs: Refs, method: str, seed: int, progress: Progress = silent) -> Artefact:
    """Train a method's model, early stopping on validation targets; in a refresh, go on from the earlier one. What
    comes after the reference goes on from the reference's, which is trained here unless it is there already.
    """
    module: TrainedModule = METHODS.load(method)
    declared = METHODS[method]
    needed = {name: artefact(refs, name) for name in declared.needs}
    validation = artefact(refs, "validation")
    reference = train(run, refs, METHODS.reference_of(method), seed, progress) if declared.after_reference else None
    start = None if reference else _earlier(run, refs, model_name(method, seed))
    if same := warm.as_it_was(start, validation=validation, **needed):
        return same
    recommender = warm.shortened(run.config.recommender, start)
    items = catalogue_size(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        if reference and hasattr(module, "finish"):
            finished: dict[str, Any] = module.finish(run, refs, reference, folder, seed, progress)
            return finished
        histories = Histories.of_run(run, refs)
        taught = module.lessons(run, refs, histories)
        begins = warm.arguments(start) or {
            "start_from": run.workspace.folder(reference) if reference else taught.start_from
        }
        summary = recommenders.train(
            recommender,
            taught.terms,
            items,
            seed,
            folder,
            watch=watch(run, refs, histories, module.prior(run, refs)),
            item_table=declared.item_table or ITEM_TABLES.default,
            table_without=taught.table_without,
            features={**taught.features, **_features(run, refs, declared)},
            progress=progress,
            **begins,
        )
        return asdict(summary)

    return run.workspace.produce(
        model_name(method, seed),
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training"), "validation": validation}
        | ({"reference": reference} if reference else {})
        | needed
        | warm.inputs(start),
        config={"recommender": recommender, "items": items} | module.settings(run.config),
        chosen=[METHODS.module_of(method), *warm.modules(recommender, start, declared.terms, declared.item_table)]
        + [STEPS.module_of(step) for step in _table(declared).needs]
        + ([ITEM_TABLES.module_of(ITEM_TABLES.default)] if reference else []),  # which finished rows are put into
        seed=seed,
        resumable=True,
    )


def _table(declared: Method) -> ItemTable:
    return ITEM_TABLES[declared.item_table or ITEM_TABLES.default]


def _features(run: Run, refs: Refs, declared: Method) -> dict[str, NDArray[np.generic]]:
    """What the method's item table is made from, as the steps' files give it."""
    table, given = _table(declared), dict[str, NDArray[np.generic]]()
    for step in table.needs:
        given |= STEPS.load(step).features(run.folder(refs, step))
    return {name: values for name, values in given.items() if name in table.features}


def _earlier(run: Run, refs: Refs, name: str) -> Start | None:
    """The earlier run's model of this name, which must not have been chosen by present test items; None where there is
    none, or no refresh.
    """
    start = warm.start(run.workspace, earlier_run(run, refs), name)
    if start is None:
        return None
    given = {part: artefact(refs, part) for part in ("catalogue", "training", "validation")}
    return start if may_go_on(run.workspace, start.earlier, **given) else None


def watch(run: Run, refs: Refs, histories: Histories, prior: Histories) -> Watch:
    """Validation targets after the histories of training, with what a method shows before them; only what a user really
    owned is excluded.
    """
    targets = read_targets(run.folder(refs, "validation") / "targets.parquet")
    shown, owned = targets.inputs(histories.after(prior)), targets.inputs(histories)
    return Watch.of(shown, targets.items, exclude=owned)
