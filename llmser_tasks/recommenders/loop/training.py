"""The training loop: batches of users, Adam, early stopping on full-ranking NDCG@10, resumable after a kill."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.recommenders.devices import own_gpu, pick_device
from llmser_tasks.recommenders.features import Features, refuse_unused
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import (
    describe,
    remove_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    save_weights,
)
from llmser_tasks.recommenders.loop.early_stopping import Seen, Watch, ndcg_at_10
from llmser_tasks.recommenders.loop.inputs import TrainingInputs, TrainingSummary
from llmser_tasks.recommenders.loop.minibatches import plan_epoch, users_per_step
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.loop.parallel import launch, process_count
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.recommenders.parts import make_parts
from llmser_tasks.recommenders.terms.term import WeightedTerm

log = logging.getLogger(__name__)

LOG = "log.jsonl"


@dataclass
class _State:
    """What a checkpoint remembers besides tensors."""

    signature: str
    log: list[dict[str, float]]
    best_epoch: int = 0
    best: float = -1.0


def train(
    config: Recommender,
    terms: Sequence[WeightedTerm],
    items: int,
    seed: int,
    folder: Path,
    *,
    watch: Watch,
    item_table: str = ITEM_TABLES.default,
    table_without: Sequence[str] = (),
    features: Features | None = None,
    start_from: Path | None = None,
    old_rows: NDArray[np.int64] | None = None,
    progress: Progress = silent,
    device: str | None = None,
) -> TrainingSummary:
    """Train a recommender and keep the weights of its best epoch in `folder`.

    Writes model.safetensors, config.json and log.jsonl. Killed and called again with the same arguments, it goes on
    after the last finished epoch and ends with the same bytes as if it had never stopped, on a CPU with the same number
    of threads and processes. If `watch` is empty, it runs all epochs and keeps the last.

    `LLMSER_TRAINING_PROCESSES` shares every batch out among so many processes, on CUDA one a GPU. Each step is that of
    a single process, except for the order in which floats are added up and for what is dropped out.

    Args:
        terms: what is minimised, each with its sequences and weights; `[WeightedTerm(histories)]` is ordinary training
            on next items. Where they hold marked items (`Histories.marked`), the model learns a mark.
        items: I; the catalogue is 1 … I.
        seed: decides initial weights, order, dropout, masks and negatives.
        item_table: what items are to the model, a name among `ITEM_TABLES`.
        table_without: parts that are left out of the item table.
        features: arrays that the item table and the terms are made from, by the names that these declare.
        start_from: folder of an earlier model of the same architecture, whose weights are the initial ones. They are
            kept ("epoch 0") if no epoch improves on them.
        old_rows: (I + 1,) each item's number in that model's catalogue, 0 for new ones
            (`sequences.changes.Changes.former_items`); None: the catalogue is the same.

    Raises:
        InputError: nothing can be learned from the sequences, or the arguments do not fit each other.
        StorageError: `start_from` holds no model, or one of several processes failed.
        OSError: the folder cannot be written.
    """
    if old_rows is not None and start_from is None:
        raise InputError("Training was told which item was which, but not by which model to start; name its folder.")
    refuse_unused(features or {}, item_table, [term.name for term in terms])
    target = pick_device(device)
    inputs = TrainingInputs(
        config,
        terms,
        items,
        seed,
        folder,
        str(target),
        watch=watch,
        item_table=item_table,
        table_without=table_without,
        features=features or {},
        start_from=start_from,
        old_rows=old_rows,
    )
    processes = process_count(inputs.device)
    if processes > 1:
        return launch(inputs, processes, progress)
    with own_gpu(target) as own:
        return run(inputs, own, ALONE, progress)


def run(inputs: TrainingInputs, device: torch.device, group: ProcessGroup, progress: Progress) -> TrainingSummary:
    """`train` in this process, which is one of `group`; it reports progress and writes files if it leads."""
    config, folder, watch = inputs.config, inputs.folder, inputs.watch
    objective = Objective.of(config, inputs.terms, inputs.items, device, inputs.features)
    batch_size = users_per_step(config, len(objective.rows))
    with pinned_threads() as threads, _own_randomness(device):
        torch.manual_seed(inputs.seed)
        about = (inputs.item_table, inputs.features, inputs.table_without, inputs.marks)
        model = make_model(config, inputs.items, *about)
        model.parts.update(make_parts(inputs.term_names, model.item_table.width, inputs.features))
        model.to(device)
        if inputs.start_from:
            begin_from(model, inputs.start_from, inputs.old_rows)
        optimiser = Adam(model.parameters(), config.learning_rate)
        average = _average(model, config.averaging_rate)
        judged = model if average is None else cast(Model, average.module)
        signature = inputs.signature
        found = restore_checkpoint(folder, model, average, optimiser, signature)
        state = _State(**found) if found else _State(signature, [])
        seen: Seen | None = None
        shown = objective.completed(judged, trained=False)
        if found:
            log.info("Training goes on after epoch %d (%s)", len(state.log), folder)
        elif inputs.start_from and len(watch.contexts):  # epoch 0: what it begins with may stay the best
            seen = Seen.by(shown, watch, group)
            state.best = ndcg_at_10(shown, watch, seen, group)
            if group.leads:
                save_weights(folder, shown)
        while len(state.log) < _last_epoch(state, config):
            epoch = len(state.log) + 1
            started = time.monotonic()
            objective.begin_epoch(judged, group, seen if shown is judged else None, epoch=epoch)
            seen = None  # it is as large as users are many
            loss = _run_epoch(model, optimiser, objective, batch_size, inputs.seed, epoch, group)
            if average is not None:
                average.update_parameters(model)
            shown = objective.completed(judged, trained=True)
            seen = Seen.by(shown, watch, group)
            ndcg = ndcg_at_10(shown, watch, seen, group)
            better = ndcg > state.best or not len(watch.contexts)
            if better:
                state.best, state.best_epoch = ndcg, epoch
            if better and group.leads:
                save_weights(folder, shown)
            seconds = round(time.monotonic() - started, 3)
            state.log.append({"epoch": epoch, "loss": loss, "ndcg@10": ndcg, "seconds": seconds})
            if group.leads:
                _write_log(folder, state.log)
                save_checkpoint(folder, model, average, optimiser, asdict(state))
                progress(epoch, _last_epoch(state, config), "epochs", _note(state, config))
    summary = TrainingSummary(
        epochs=len(state.log),
        best_epoch=state.best_epoch,
        ndcg=state.best,
        users=len(objective.rows),
        seconds=round(sum(entry["seconds"] for entry in state.log), 3),
        threads=threads * group.size,
        device=device.type,
    )
    if group.leads:
        facts = {"seed": inputs.seed, "training": asdict(summary)}
        describe(folder, shown, facts)
        remove_checkpoint(folder)
    return summary


def _average(model: Model, rate: float) -> AveragedModel | None:
    """A copy that moves 1 - rate of the way towards the model each epoch; None where it would be the model itself."""
    return AveragedModel(model, avg_fn=lambda former, now, _: former.lerp(now, 1 - rate)) if rate else None


def _run_epoch(
    model: Model,
    optimiser: Adam,
    objective: Objective,
    batch_size: int,
    seed: int,
    epoch: int,
    group: ProcessGroup = ALONE,
) -> float:
    """One pass over the users; the mean loss per user. All that is random follows from seed and epoch.

    In a group each process has its own dropout; masks and negatives are the same in all.
    """
    draws = _seeds(seed, epoch)
    torch.manual_seed(next(draws) + group.rank)  # dropout
    batches = plan_epoch(objective.rows, batch_size, next(draws))
    total = torch.zeros((), device=model.device)
    model.train()
    for batch in batches:
        rows = torch.from_numpy(batch).to(model.device)
        loss = objective(model, rows, next(draws), group.own(len(rows), model.device))
        if loss.requires_grad:  # unless all rows are other processes'
            torch.autograd.backward(loss)
        group.add_gradients(model)
        optimiser.step()
        total += loss.detach() * len(rows)
    return float(group.total(total)) / len(objective.rows)


def _last_epoch(state: _State, config: Recommender) -> int:
    """The epoch that training ends with unless a better one comes first; it moves on with every improvement."""
    return min(config.epochs, state.best_epoch + config.patience)


def _note(state: _State, config: Recommender) -> str:
    """'NDCG@10 0.0412, best 0.0420 in epoch 5; stops after epoch 17 unless it improves'."""
    last = _last_epoch(state, config)
    figures = f"NDCG@10 {state.log[-1]['ndcg@10']:.4f}, best {state.best:.4f} in epoch {state.best_epoch}"
    return f"{figures}; stops after epoch {last} unless it improves" if len(state.log) < last else figures


def _seeds(seed: int, epoch: int) -> Iterator[int]:
    """An endless stream of seeds that belongs to one epoch of one training."""
    random = np.random.default_rng([seed, epoch])
    while True:
        yield int(random.integers(1 << 32))


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators as they were, and keep Adam's fading moments from turning into slow denormals."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


def _write_log(folder: Path, entries: list[dict[str, float]]) -> None:
    (folder / LOG).write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), encoding="utf-8")
