"""CITIES: the base's model, in which items that are rare have the vectors that their contexts tell of.

What infers them (`inference`) learns on items that are not rare: from what stands around them in a few histories, with
the item itself masked, it should find their finished vectors. Some of these items are held out, and say when to stop.
Nothing else of the model changes, and nothing more is needed to recommend.

Contexts are from training histories alone; the released code cuts by users, so that what others were tested on is among
them. Gradients are cut to a length before each step; there it happens once, before there are any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.cities.contexts import Contexts
from llmser_tasks.methods.cities.inference import Teacher, write_log
from llmser_tasks.methods.cities.settings import Cities
from llmser_tasks.methods.trained import Lessons, watch
from llmser_tasks.recommenders import WeightedTerm, finished
from llmser_tasks.recommenders.devices import own_gpu, pick_device
from llmser_tasks.recommenders.loop.checkpoints import describe, save_weights
from llmser_tasks.recommenders.loop.early_stopping import Seen, ndcg_at_10
from llmser_tasks.recommenders.loop.training import LOG
from llmser_tasks.sequences.head_items import head_items
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="CITIES", place=4, colour="thirteenth", trained=True, after_reference=True)


def settings(config: RunConfig) -> dict[str, Any]:
    own = config.of(Cities)
    return {
        "cities_seen": own.cities_seen,
        "cities_contexts": own.cities_contexts,
        "cities_learning_rate": own.cities_learning_rate,
    }


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """The base's own: its model is what this one is made of (`finish`)."""
    del run, refs
    return Lessons([WeightedTerm(histories)])


def finish(run: Run, refs: Refs, reference: Artefact, into: Path, seed: int, progress: Progress) -> dict[str, Any]:
    """The base's model, with inferred vectors for rare items.

    Raises:
        InputError: no item is seen often enough to teach.
    """
    own, histories = run.config.of(Cities), Histories.of_run(run, refs)
    epochs, patience = run.config.recommender.epochs, run.config.recommender.patience
    with own_gpu(pick_device(None)) as device, pinned_threads():
        model = finished.finish(recommenders.load(run.workspace.folder(reference), str(device)))
        contexts = Contexts.of(histories, model.items)
        taught, rare = _items(histories.counts(model.items), contexts, own)
        if not len(taught):
            raise InputError(
                "CITIES learns from items that are seen often, and none is seen often enough in training histories; "
                "lower cities_seen, or take cities out of the methods."
            )
        teacher = Teacher(model.table.detach(), contexts, taught, own.cities_contexts, seed)
        function, learned = teacher.learn(into, own.cities_learning_rate, epochs, patience, progress)
        if len(rare):
            model.item_table.put(torch.from_numpy(rare).to(model.device), teacher.infer(function, rare))
        watched = watch(run, refs, histories, prior(run, refs))
        ndcg = ndcg_at_10(model, watched, Seen.by(model, watched))
    summary = run.workspace.summary(reference)
    made = {"taught": len(taught), "inferred": len(rare), "inference_epochs": len(learned.errors)}
    save_weights(into, model)
    describe(into, model, {"seed": seed, "training": {**summary, "ndcg": ndcg}})
    write_log(into / LOG, learned)
    return {**summary, "ndcg": ndcg, **made, "mse": min(learned.errors)}


def _items(counts: NDArray[np.int64], contexts: Contexts, own: Cities) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items that teach, and those that are inferred; of both, those that have a context."""
    often = head_items(counts) if own.cities_seen is None else counts > own.cities_seen
    return np.flatnonzero(often & (contexts.count > 0)), np.flatnonzero(~often & (contexts.count > 0))


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])
