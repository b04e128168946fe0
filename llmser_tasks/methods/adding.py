"""Something added to a finished model's scores: how much of it there is, is chosen on validation items."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import ADDITIONS, METHODS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.trained import Recipe
from llmser_tasks.recommenders import Added
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.histories import Histories


class AdditionModule(Protocol):
    """What the file of an addition has to have."""

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Settings that matter to it."""

    def fit(
        self, run: Run, refs: Refs, model: Path, prior: Histories, into: Path, progress: Progress
    ) -> dict[str, Any]:
        """Choose how much is added, on validation items, and write it with all that `added` needs.

        Args:
            model: folder of the trained model.
            prior: what the method shows it before a user's own items.

        Returns:
            A summary, whose `ndcg` is the validation NDCG@10 that comes of it.
        """

    def added(self, fitted: Path, owned: Histories, device: torch.device) -> Added:
        """What is added to the scores of users who own these items; it needs nothing but the fitted folder."""


def fit(run: Run, refs: Refs, method: str, seed: int, progress: Progress = silent) -> Artefact:
    """What is added to the scores of a method's model, which `refs` has."""
    declared = METHODS[method]
    module: AdditionModule = ADDITIONS.load(declared.addition)
    needed = {name: artefact(refs, name) for name in declared.needs}
    known = {name: artefact(refs, name) for name in ("training", "validation", "catalogue")}
    model = artefact(refs, model_name(METHODS.model_of(method), seed))
    folder = run.workspace.folder(model)
    prior = Recipe.of(run, refs, method).prior()

    def write(into: Path) -> dict[str, Any]:
        return module.fit(run, refs, folder, prior, into, progress)

    return run.workspace.produce(
        model_name(method, seed),
        run.dataset,
        write,
        inputs={"model": model, "prior": prior.content(), **needed, **known},
        config=module.settings(run.config),
        chosen=[METHODS.module_of(method), ADDITIONS.module_of(declared.addition), *modules_in(folder)],
        seed=seed,
    )


def added(addition: str, fitted: Path, owned: Histories, device: torch.device) -> Added:
    """What an addition adds to a model's scores for users who own these items.

    Raises:
        StorageError: the folder does not hold what was fitted.
    """
    module: AdditionModule = ADDITIONS.load(addition)
    return module.added(fitted, owned, device)
