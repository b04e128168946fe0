"""Pools of candidates: what a model, or another source, finds likely after what it is shown of each user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmser_tasks import recommenders
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.catalogue import Ints, catalogue_size
from llmser_tasks.sequences.changes import Changes, earlier_run
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import Pools, earlier_pools, interleaved, random_pools, write_pools


class Source(Protocol):
    """Where candidates come from: a model, or the file of a `PoolSource`. What it takes has to be made before the step
    whose pools it fills.
    """

    def inputs(self, run: Run, refs: Refs) -> Mapping[str, Artefact]:
        """What it proposes from, beside histories and catalogue; nothing: it draws at random."""

    def modules(self, run: Run, refs: Refs) -> list[str]:
        """The modules that it loads by name."""

    def propose(self, run: Run, refs: Refs, seen: Histories, size: int, progress: Progress) -> Pools:
        """The `size` likeliest items for what is seen of each user, and their scores; nothing of what is seen."""


@dataclass(frozen=True)
class FromModel:
    """The items that a model ranks highest; where the run leaves its training out, uniformly random ones.

    Attributes:
        model: the step that trains it.
        backwards: it reads what it is shown back to front.
    """

    model: str
    backwards: bool = False

    def inputs(self, run: Run, refs: Refs) -> Mapping[str, Artefact]:
        return {} if parts.left_out(self.model, run.config) else {self.model: artefact(refs, self.model)}

    def modules(self, run: Run, refs: Refs) -> list[str]:
        return [name for made in self.inputs(run, refs).values() for name in modules_in(run.workspace.folder(made))]

    def propose(self, run: Run, refs: Refs, seen: Histories, size: int, progress: Progress) -> Pools:
        trained = self.inputs(run, refs).get(self.model)
        if trained is None:
            return random_pools(seen, catalogue_size(run, refs), size, run.config.seed, progress)
        loaded = recommenders.load(run.workspace.folder(trained))
        return recommenders.top_k(loaded, seen.reverse() if self.backwards else seen, size, seen, progress)


@dataclass(frozen=True)
class Shown:
    """What a step shows of each user.

    Attributes:
        contexts: what is known of each training user, oldest first; the pool holds none of it.
        made_of: artefacts that contexts are made of, beside the training histories.
    """

    contexts: Callable[[Run, Refs], Histories]
    made_of: Sequence[str] = ()


def make(
    run: Run,
    refs: Refs,
    step: str,
    progress: Progress,
    *,
    sources: Mapping[str, Source],
    size: int,
    shown: Shown,
    holds: Callable[[Run, Refs], Ints] | None = None,
) -> Artefact:
    """A pool of the `size` best items per user, in rank order, equal shares of several sources; a user of whom nothing
    is known gets an empty one.

    In a refresh, users whose S_u is the same keep the pool of the earlier run (`sequences.changes`).

    Args:
        step: whose pools; its own module makes the contexts.
        sources: by name.
        holds: (U,) an item of each user that takes the last place where it would be missing.
    """
    items, seed = catalogue_size(run, refs), run.config.seed
    given = {name: source.inputs(run, refs) for name, source in sources.items()}
    random = not all(given.values())
    earlier = earlier_run(run, refs)
    before = earlier.made[step] if earlier else None

    def write(folder: Path) -> dict[str, Any]:
        contexts = shown.contexts(run, refs)
        known = contexts.lengths > 0
        pools, scores = np.zeros((len(contexts), size), np.int32), np.zeros((len(contexts), size), np.float32)
        open_ = known
        if earlier is not None and before is not None:
            changes = Changes.read(run.workspace.folder(earlier.changes))
            open_ = known & ~changes.kept
            same = earlier_pools(run.workspace.folder(before), changes, size)
            pools[changes.kept], scores[changes.kept] = same
        seen = contexts.select(open_)
        if len(seen):
            found = [source.propose(run, refs, seen, size, progress) for source in sources.values()]
            pools[open_], scores[open_] = found[0] if len(found) == 1 else interleaved(found, size)
        added = {} if holds is None else {"added": _hold((pools, scores), open_, holds(run, refs))}
        return {
            "users": len(contexts),
            "without_context": int((~known).sum()),
            "taken_over": int((known & ~open_).sum()),
            "candidates": write_pools(folder, contexts.users, pools, scores),
        } | added

    return run.workspace.produce(
        step,
        run.dataset,
        write,
        inputs={name: artefact(refs, name) for name in ("training", *shown.made_of)}
        | {name: made for of_source in given.values() for name, made in of_source.items()}
        | ({"changes": earlier.changes, "former": before} if earlier and before else {}),
        config={"pool": size, "items": items, "random": random, "sources": list(sources), "holds": holds is not None},
        chosen=[STEPS.module_of(step), *(name for source in sources.values() for name in source.modules(run, refs))],
        seed=seed if random else None,
    )


def _hold(pools: Pools, open_: np.ndarray, wanted: Ints) -> int:
    """Give each open user's wanted item the last place of a pool that does not hold it; returns how many got one."""
    items, scores = pools
    missing = np.flatnonzero(open_ & ~(items == wanted[:, None]).any(axis=1))
    last = np.minimum((items[missing] > 0).sum(axis=1), items.shape[1] - 1)
    items[missing, last], scores[missing, last] = wanted[missing], np.nan  # nothing ranked it among its best
    return len(missing)
