"""Methods that train a model: what their files have, and the training that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import Recommender, RunConfig
from llmser_tasks.core.kinds import ITEM_TABLES, METHODS, STEPS, ItemTable, Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods import warm
from llmser_tasks.methods.warm import Start
from llmser_tasks.recommenders import TrainingSummary, Watch, WeightedTerm
from llmser_tasks.recommenders.features import Features
from llmser_tasks.recommenders.loop.checkpoints import save_description
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


@dataclass(frozen=True)
class Axis:
    """Settings of which a search on validation items takes the best (`methods.searched`).

    Attributes:
        choices: flat settings that exclude each other; {} are the run's own.
        remade: steps whose artefacts depend on them, to be made anew. Everything else stays the run's, answers of LLMs
            among it: none of these settings may cost a question.
    """

    choices: Sequence[Mapping[str, Any]]
    remade: tuple[str, ...] = ()


class TrainedModule(Protocol):
    """What the file of a method that trains has to have.

    It may also have `searched(config)`, the `Axis`es among which a search finds its settings; and `stands_for(run,
    refs)`, the `Recipe` of the other method that is trained in its place.
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


@dataclass(frozen=True)
class Recipe:
    """What a method of a run comes to.

    Attributes:
        run, refs: with the settings and artefacts that it is trained with.
        method: what is trained, a method with its item table.
        goes_on: in a refresh, from the earlier run's model of the name that this one gets.
    """

    run: Run
    refs: Refs
    method: str
    goes_on: bool = True

    @classmethod
    def of(cls, run: Run, refs: Refs, method: str) -> Recipe:
        """A method's own, or, where it stands for another one, that one's."""
        stands_for: Callable[[Run, Refs], Recipe] | None = getattr(METHODS.load(method), "stands_for", None)
        return stands_for(run, refs) if stands_for else cls(run, refs, METHODS.model_of(method))

    @property
    def declared(self) -> Method:
        return METHODS[self.method]

    @property
    def module(self) -> TrainedModule:
        loaded: TrainedModule = METHODS.load(self.method)
        return loaded

    def prior(self) -> Histories:
        """What comes before a user's own items wherever the method shows them to a model."""
        return self.module.prior(self.run, self.refs)

    def modules(self, start: Start | None = None) -> list[str]:
        """The modules that a training chooses by name; its step has to name them."""
        tables = [STEPS.module_of(step) for step in _table(self.declared).needs]
        terms, table = self.declared.terms, self.declared.item_table
        return [
            METHODS.module_of(self.method),
            *warm.modules(self.run.config.recommender, start, terms, table),
            *tables,
        ]

    def train(
        self,
        recommender: Recommender,
        seed: int,
        folder: Path,
        start: Start | None = None,
        progress: Progress = silent,
        reference: Path | None = None,
    ) -> TrainingSummary:
        """Train it in this folder (`recommenders.train`).

        Args:
            start: the model to go on from.
            reference: folder of the reference's model, of a method that comes after it.
        """
        run, refs, module = self.run, self.refs, self.module
        histories = Histories.of_run(run, refs)
        taught = module.lessons(run, refs, histories)
        begins = warm.arguments(start) or {"start_from": reference or taught.start_from}
        return recommenders.train(
            recommender,
            taught.terms,
            catalogue_size(run, refs),
            seed,
            folder,
            watch=watch(run, refs, histories, module.prior(run, refs)),
            item_table=self.declared.item_table or ITEM_TABLES.default,
            table_without=taught.table_without,
            features={**taught.features, **_features(run, refs, self.declared)},
            progress=progress,
            **begins,
        )

    def describe(self, folder: Path) -> None:
        """Write what it takes to load the best model so far of a training that has not ended."""
        taught = self.module.lessons(self.run, self.refs, Histories.of_run(self.run, self.refs))
        marks = self.prior().any_marked or any(term.sequences.any_marked for term in taught.terms)
        table = self.declared.item_table or ITEM_TABLES.default
        items, config = catalogue_size(self.run, self.refs), self.run.config.recommender
        save_description(folder, config, items, {}, table, taught.table_without, marks)


def train(run: Run, refs: Refs, method: str, seed: int, progress: Progress = silent) -> Artefact:
    """Train a method's model, early stopping on validation targets; in a refresh, go on from the earlier one. What
    comes after the reference goes on from the reference's, which is trained here unless it is there already.
    """
    recipe = Recipe.of(run, refs, method)
    needed = {name: artefact(recipe.refs, name) for name in recipe.declared.needs}
    validation = artefact(refs, "validation")
    after = recipe.declared.after_reference
    reference = train(run, refs, METHODS.reference_of(recipe.method), seed, progress) if after else None
    start = _earlier(run, refs, model_name(method, seed)) if recipe.goes_on and not after else None
    if same := warm.as_it_was(start, validation=validation, **needed):
        return same
    recommender = warm.shortened(recipe.run.config.recommender, start)
    items = catalogue_size(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        if reference and hasattr(recipe.module, "finish"):
            finished: dict[str, Any] = recipe.module.finish(recipe.run, recipe.refs, reference, folder, seed, progress)
            return finished
        begins_with = run.workspace.folder(reference) if reference else None
        return asdict(recipe.train(recommender, seed, folder, start, progress, begins_with))

    return run.workspace.produce(
        model_name(method, seed),
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training"), "validation": validation}
        | ({"reference": reference} if reference else {})
        | needed
        | warm.inputs(start),
        config={"recommender": recommender, "items": items} | recipe.module.settings(recipe.run.config),
        chosen=recipe.modules(start)
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
