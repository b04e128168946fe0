"""The training loop: batches of users, Adam, early stopping on full-ranking NDCG@10, resumable after a kill."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
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
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.recommenders.devices import own_gpu, pick_device
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import (
    remove_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    save_description,
    save_weights,
)
from llmser_tasks.recommenders.loop.job import Job, TrainingSummary, Watch
from llmser_tasks.recommenders.loop.minibatches import plan_epoch, users_per_step
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.loop.parallel import launch, process_count
from llmser_tasks.recommenders.loop.processes import Team
from llmser_tasks.recommenders.loop.threads import pinned_threads
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.recommenders.topk import ranks
from llmser_tasks.sequences.histories import Histories

log = logging.getLogger(__name__)

LOG = "log.jsonl"
ALONE = Team()


@dataclass
class _State:
    """What a checkpoint remembers beside tensors."""

    signature: str
    log: list[dict[str, float]]
    best_epoch: int = 0
    best: float = -1.0


def train(
    model_config: Recommender,
    histories: Histories,
    items: int,
    seed: int,
    folder: Path,
    *,
    watch: Watch,
    enhanced: Histories | None = None,
    alpha: NDArray[np.float64] | None = None,
    context: NDArray[np.int64] | None = None,
    start_from: Path | None = None,
    old_rows: NDArray[np.int64] | None = None,
    progress: Progress = silent,
    device: str | None = None,
) -> TrainingSummary:
    """Train a recommender on next items and keep the weights of its best epoch in `folder`.

    With `enhanced` (S̃_u, the same users as `histories`) and `alpha` ((U,) α_u) this is Dual-Channel Training, Eq. 9.
    Writes model.safetensors, config.json and log.jsonl. Killed and called again with the same arguments it goes on
    after the last finished epoch and ends with the same bytes as if it had never stopped, on a CPU with the same
    number of threads and processes. Where `watch` is empty it runs all epochs and keeps the last.

    `LLMSER_TRAINING_PROCESSES` shares every batch out to so many processes, on CUDA one a GPU. Each step is that of one
    process but for the order in which floats are added up, and for what is dropped out.

    Args:
        items: I; the catalogue is 1 … I.
        seed: decides initial weights, order, dropout, masks and negatives.
        context: (U,) how many of each enhanced sequence's first items are shown but never targets: its pseudo items,
            where Eq. 7's t = 1 … n_u is taken at its word. None: every item of S̃_u is a target too.
        start_from: folder of an earlier model of the same architecture, whose weights are the initial ones. They are
            what is kept ("epoch 0") where no epoch makes them better.
        old_rows: (I + 1,) each item's number in that model's catalogue, 0 for new ones (`warm_start.match_items`);
            None: the catalogue is the same.

    Raises:
        InputError: nothing can be learned from the histories, or the arguments do not fit each other.
        StorageError: `start_from` holds no model, or one of several processes failed.
        OSError: the folder cannot be written.
    """
    if old_rows is not None and start_from is None:
        raise InputError("Training was told which item was which, but not by which model to start; name its folder.")
    target = pick_device(device)
    job = Job(
        model_config,
        histories,
        items,
        seed,
        folder,
        str(target),
        watch=watch,
        enhanced=enhanced,
        alpha=alpha,
        context=context,
        start_from=start_from,
        old_rows=old_rows,
    )
    processes = process_count(job.device)
    if processes > 1:
        return launch(job, processes, progress)
    with own_gpu(target) as own:
        return run(job, own, ALONE, progress)


def run(job: Job, device: torch.device, team: Team, progress: Progress) -> TrainingSummary:
    """`train` in this process, which is one of `team`; it reports progress and writes files if it leads."""
    config, folder = job.config, job.folder
    objective = Objective.of(config, job.histories, job.items, device, job.enhanced, job.alpha, job.context)
    batch_size = users_per_step(config, len(objective.rows))
    with pinned_threads() as threads, _own_randomness(device):
        torch.manual_seed(job.seed)
        model = make_model(config, job.items).to(device)
        if job.start_from:
            begin_from(model, job.start_from, job.old_rows)
        optimiser = Adam(model.parameters(), config.learning_rate)
        average = _average(model, config.averaging_rate)
        judged = model if average is None else cast(Model, average.module)
        signature = job.signature
        found = restore_checkpoint(folder, model, average, optimiser, signature)
        state = _State(**found) if found else _State(signature, [])
        if found:
            log.info("Training goes on after epoch %d (%s)", len(state.log), folder)
        elif job.start_from and len(job.watch.contexts):  # epoch 0: what it begins with may stay the best
            state.best = ndcg_at_10(judged, job.watch, team)
            if team.leads:
                save_weights(folder, judged)
        while len(state.log) < _last_epoch(state, config):
            epoch = len(state.log) + 1
            started = time.monotonic()
            loss = _run_epoch(model, optimiser, objective, batch_size, job.seed, epoch, team)
            if average is not None:
                average.update_parameters(model)
            ndcg = ndcg_at_10(judged, job.watch, team)
            better = ndcg > state.best or not len(job.watch.contexts)
            if better:
                state.best, state.best_epoch = ndcg, epoch
            if better and team.leads:
                save_weights(folder, judged)
            seconds = round(time.monotonic() - started, 3)
            state.log.append({"epoch": epoch, "loss": loss, "ndcg@10": ndcg, "seconds": seconds})
            if team.leads:
                _write_log(folder, state.log)
                save_checkpoint(folder, model, average, optimiser, asdict(state))
                progress(epoch, _last_epoch(state, config), "epochs", _note(state, config))
    summary = TrainingSummary(
        epochs=len(state.log),
        best_epoch=state.best_epoch,
        ndcg=state.best,
        users=len(objective.rows),
        seconds=round(sum(entry["seconds"] for entry in state.log), 3),
        threads=threads * team.size,
        device=device.type,
    )
    if team.leads:
        save_description(folder, config, job.items, {"seed": job.seed, "training": asdict(summary)})
        remove_checkpoint(folder)
    return summary


def _average(model: Model, rate: float) -> AveragedModel | None:
    """A copy that follows the model by 1 - rate of the way an epoch; None where it would be the model itself."""
    return AveragedModel(model, avg_fn=lambda former, now, _: former.lerp(now, 1 - rate)) if rate else None


def ndcg_at_10(model: Model, watch: Watch, team: Team = ALONE) -> float:
    """Mean of 1 / log2(1 + rank) over watched users, 0 for a rank beyond 10; 0 where nobody is watched.

    Each process of a team ranks for its own share. What they exchange are counts, so all find the same number.
    """
    if not len(watch.contexts):
        return 0.0
    own = team.own(len(watch.contexts)).numpy()
    rank = ranks(model, watch.contexts.select(own), watch.targets[own], watch.exclude)
    times = team.total(torch.from_numpy(np.bincount(rank[rank <= 10], minlength=11)).to(model.device)).cpu().numpy()
    return float((times[1:] / np.log2(np.arange(2, 12))).sum() / len(watch.contexts))


def _run_epoch(
    model: Model,
    optimiser: Adam,
    objective: Objective,
    batch_size: int,
    seed: int,
    epoch: int,
    team: Team = ALONE,
) -> float:
    """One pass over the users; the mean loss per user. All that is random follows from seed and epoch.

    Of a team each process drops out on its own; masks and negatives are the same in all.
    """
    draws = _seeds(seed, epoch)
    torch.manual_seed(next(draws) + team.rank)  # dropout
    batches = plan_epoch(objective.rows, batch_size, next(draws))
    total = torch.zeros((), device=model.device)
    model.train()
    for batch in batches:
        rows = torch.from_numpy(batch).to(model.device)
        loss = objective(model, rows, next(draws), team.own(len(rows), model.device))
        if loss.requires_grad:  # not where all rows are others'
            torch.autograd.backward(loss)
        team.add_gradients(model)
        optimiser.step()
        total += loss.detach() * len(rows)
    return float(team.total(total)) / len(objective.rows)


def _last_epoch(state: _State, config: Recommender) -> int:
    """The epoch that training ends with unless a better one comes before; it moves on with every improvement."""
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
