"""The content score: γ · how near an item's text is to the latest texts of a user's history, which a model that knows
items by their ids alone cannot see.

γ is chosen on validation items, apart for users with a short history (tail, n ≤ T) and for the others (head): whichever
gives the group's highest NDCG@10, of equals the smallest, so 0 where it does not help. At validation a history is the
training history, so n is n_u; whoever is served later belongs to the group of the history that is given.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.kinds import Addition
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import write_json
from llmser_tasks.methods.additions import near_texts
from llmser_tasks.methods.additions.near_history import NearHistory
from llmser_tasks.methods.additions.near_texts import NearTexts
from llmser_tasks.methods.trained import watch
from llmser_tasks.recommenders import Added
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.histories import Histories

DECLARED = Addition(title="content score", place=1, needs=("near-texts",), usual=True)

GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)  # what γ is chosen from
FILE = "gamma.json"


@dataclass(frozen=True)
class Gamma:
    """γ by group.

    Attributes:
        threshold: T: the longest history of a tail user.
    """

    tail: float
    head: float
    threshold: int

    def of(self, owned: Histories) -> NDArray[np.float32]:
        """(U,) of users who own these items."""
        return np.where(owned.lengths <= self.threshold, self.tail, self.head).astype(np.float32)

    @classmethod
    def read(cls, folder: Path) -> Gamma:
        """
        Raises:
            StorageError: it is not there.
        """
        try:
            said = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(float(said["tail"]), float(said["head"]), int(said["threshold"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{folder / FILE} cannot be read ({type(error).__name__}); run the step again."
            ) from error


def settings(config: RunConfig) -> dict[str, Any]:
    del config  # there are none
    return {}


def fit(run: Run, refs: Refs, model: Path, prior: Histories, into: Path, progress: Progress = silent) -> dict[str, Any]:
    """Write γ, and beside it the lists of near items.

    Returns:
        `ndcg`: the validation NDCG@10 with it, `ndcg_without`; `gamma` by group; and for every group `users` and, in
        the order of `grid`, its NDCG@10 with each γ.
    """
    lists = run.folder(refs, near_texts.STEP)
    near = NearTexts.read(lists)
    shutil.copyfile(lists / near_texts.FILE, into / near_texts.FILE)
    watched, trained = watch(run, refs, Histories.of_run(run, refs), prior), recommenders.load(model)
    likeness = NearHistory.to(watched.exclude, near, trained.device)
    ranks = recommenders.ranks_by_share(
        trained, watched.contexts, watched.targets, watched.exclude, likeness, GRID, progress
    )
    chosen, said = choose(ranks, watched.exclude.lengths, threshold_of(run, refs))
    write_json(into / FILE, asdict(chosen))
    return said


def choose(ranks: NDArray[np.int32], n: NDArray[np.int64], threshold: int) -> tuple[Gamma, dict[str, Any]]:
    """γ of each group, and what is said about it.

    Args:
        ranks: (G, U) of the validation items, for every γ of the grid.
        n: (U,) lengths of the histories.
    """
    gain = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
    tail = n <= threshold
    total, gamma, groups = 0.0, {}, {}
    for name, users in (("tail", tail), ("head", ~tail)):
        sums = gain[:, users].sum(axis=1)
        best = int(sums.argmax())  # the first of equals; 0 where there is nobody
        total, gamma[name] = total + float(sums[best]), GRID[best]
        count = int(users.sum())
        groups[name] = {"users": count, "ndcg": [round(float(sum_) / max(1, count), 6) for sum_ in sums]}
    everyone = max(1, len(n))
    said = {"ndcg": total / everyone, "ndcg_without": float(gain[0].sum()) / everyone}
    return Gamma(**gamma, threshold=threshold), said | {"gamma": gamma, "grid": list(GRID), "groups": groups}


def added(fitted: Path, owned: Histories, device: torch.device) -> Added:
    """What is added for users who own these items.

    Raises:
        StorageError: the folder does not hold what was fitted.
    """
    return NearHistory.to(owned, NearTexts.read(fitted), device).times(Gamma.read(fitted).of(owned))
