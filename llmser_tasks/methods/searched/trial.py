"""One trial of a search: a training that may stop after any epoch and go on from there, in a folder of its own.

All that is known of it is in the folder, so that a killed search goes on where it stood: the training's log and
checkpoint, and once the trial is over what came of it; then the weights are removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import write_json
from llmser_tasks.methods.trained import Recipe, watch
from llmser_tasks.recommenders.load import DESCRIPTION
from llmser_tasks.recommenders.loop.checkpoints import CHECKPOINT, WEIGHTS
from llmser_tasks.recommenders.loop.early_stopping import Seen, ndcg_at_10
from llmser_tasks.recommenders.loop.training import LOG
from llmser_tasks.sequences.histories import Histories

OVER = "over.json"
REFUSED = "refused.json"


class _Enough(Exception):
    """It has been trained as far as it is to be for now."""


@dataclass
class Trial:
    """
    Attributes:
        place: in the list of all, from 0.
        recipe: makes what is trained; what that needs is made at the first call.
        title: what people read.
    """

    place: int
    folder: Path
    title: str
    seed: int
    make: Callable[[], Recipe] = field(repr=False)

    @cached_property
    def recipe(self) -> Recipe:
        return self.make()

    @property
    def log(self) -> list[dict[str, float]]:
        """An entry an epoch."""
        path = self.folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    @property
    def epochs(self) -> int:
        return len(self.log)

    @property
    def seconds(self) -> float:
        """Of training, over all attempts."""
        return sum(entry["seconds"] for entry in self.log)

    @property
    def ended(self) -> bool:
        """Whether its training came to its own end, or could not begin."""
        described, going_on = (self.folder / DESCRIPTION).exists(), (self.folder / CHECKPOINT).exists()
        return self.refused is not None or (described and not going_on)

    @property
    def refused(self) -> str | None:
        """Why it cannot be trained."""
        path = self.folder / REFUSED
        return str(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def best(self, until: int | None = None) -> float:
        """The highest validation NDCG@10 of an epoch, up to one; below 0 before the first."""
        return max((entry["ndcg@10"] for entry in self.log[:until]), default=-1.0)

    def go_on(self, until: int | None, spent: Callable[[int], bool]) -> None:
        """Train until the end of an epoch (None: until it ends by itself), or until the budget is spent.

        Args:
            spent: is told the epoch that has ended.
        """
        if self.ended or self.over is not None or (until is not None and self.epochs >= until):
            return
        self.folder.mkdir(parents=True, exist_ok=True)

        def watched(done: int, total: int | None, unit: str, note: str = "") -> None:
            del note
            stop = spent(done)  # tells people, too
            if unit == "epochs" and done != total and (stop or done == until):
                raise _Enough

        try:
            recipe = self.recipe
            recipe.train(recipe.run.config.recommender, self.seed, self.folder, progress=watched)
        except _Enough:
            pass
        except InputError as error:  # of this trial alone: what its parts do not go together with, say
            write_json(self.folder / REFUSED, str(error))

    @property
    def over(self) -> dict[str, Any] | None:
        """What came of it, once it is over."""
        path = self.folder / OVER
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def end(self, how: str, tail: int) -> dict[str, Any]:
        """Note what came of it, with the NDCG@10 of tail users at its best epoch, and remove its weights.

        Args:
            how: why it is over, for people.
            tail: T.
        """
        if (said := self.over) is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            log = self.log
            best = max(range(len(log)), key=lambda place: log[place]["ndcg@10"], default=-1)
            said = {
                "epochs": len(log),
                "best_epoch": best + 1,
                "ndcg": log[best]["ndcg@10"] if log else None,
                "tail_ndcg": self._of_tail_users(tail) if log else None,
                "how": self.refused or (how if log else "not begun, as the budget was spent"),
            }
            write_json(self.folder / OVER, said)
        for path in self.folder.iterdir():
            if path.name in {WEIGHTS, CHECKPOINT} or path.suffix == ".partial":
                path.unlink()
        return said

    def _of_tail_users(self, threshold: int) -> float | None:
        """None where none is watched."""
        recipe = self.recipe
        histories, prior = Histories.of_run(recipe.run, recipe.refs), recipe.prior()
        watched = watch(recipe.run, recipe.refs, histories, prior)
        tail = np.flatnonzero(watched.exclude.lengths <= threshold)
        if not len(tail):
            return None
        few = recommenders.Watch(watched.contexts.select(tail), watched.targets[tail], watched.exclude.select(tail))
        if not self.ended:  # an ended training has described its model
            recipe.describe(self.folder)
        model = recommenders.load(self.folder)
        return ndcg_at_10(model, few, Seen.by(model, few))
