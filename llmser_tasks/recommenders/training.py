"""The training loop: batches of users, Adam, early stopping on full-ranking NDCG@10, resumable after a kill."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks.config import Recommender
from llmser_tasks.progress import Progress, silent
from llmser_tasks.recommenders.backbones import make_model
from llmser_tasks.recommenders.batches import plan_epoch
from llmser_tasks.recommenders.checkpoints import (
    pick_device,
    remove_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    save_description,
    save_weights,
)
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.recommenders.optimiser import Adam
from llmser_tasks.recommenders.threads import pinned_threads
from llmser_tasks.recommenders.topk import ranks
from llmser_tasks.sequences.histories import Histories

log = logging.getLogger(__name__)

LOG = "log.jsonl"


@dataclass(frozen=True)
class Watch:
    """What early stopping looks at: full-ranking NDCG@10 of known next items.

    Attributes:
        contexts: the sequences a model is shown, one row per watched user.
        targets: (len(contexts),) the item that came next.
        exclude: items a user is not asked about, usually the history; never the target.
    """

    contexts: Histories
    targets: NDArray[np.int32]
    exclude: Histories


@dataclass(frozen=True)
class TrainingSummary:
    """What a training did.

    Attributes:
        epochs: epochs run, over all attempts.
        best_epoch: the epoch (from 1) whose weights were kept.
        ndcg: its NDCG@10 on the watch, NaN-free: 0 where nothing was watched.
        users: users that taught something.
        seconds: wall seconds over all attempts.
        threads: CPU threads used.
        device: "cpu" or "cuda".
    """

    epochs: int
    best_epoch: int
    ndcg: float
    users: int
    seconds: float
    threads: int
    device: str


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
    progress: Progress = silent,
    device: str | None = None,
) -> TrainingSummary:
    """Train a recommender on next items and keep the weights of its best epoch in `folder`.

    With `enhanced` (S̃_u, the same users as `histories`) and `alpha` ((U,) α_u) this is Dual-Channel Training, Eq. 9.
    Writes model.safetensors, config.json and log.jsonl. Killed and called again with the same arguments it goes on
    after the last finished epoch and ends with the same bytes as if it had never stopped, on a CPU with the same
    number of threads. Where `watch` is empty it runs all epochs and keeps the last.

    Args:
        items: I; the catalogue is 1 … I.
        seed: decides initial weights, order, dropout, masks and negatives.
        context: (U,) how many of each enhanced sequence's first items are shown but never targets: its pseudo items,
            where Eq. 7's t = 1 … n_u is taken at its word. None: every item of S̃_u is a target too.

    Raises:
        InputError: nothing can be learned from the histories, or the arguments do not fit each other.
        OSError: the folder cannot be written.
    """
    target = pick_device(device)
    objective = Objective.of(model_config, histories, items, target, enhanced, alpha, context)
    signature = _signature(model_config, histories, items, seed, watch, enhanced, alpha, context, str(target))
    with pinned_threads() as threads, _own_randomness(target):
        torch.manual_seed(seed)
        model = make_model(model_config, items).to(target)
        optimiser = Adam(model.parameters(), model_config.learning_rate)
        found = restore_checkpoint(folder, model, optimiser, signature)
        state = _State(**found) if found else _State(signature, [])
        if found:
            log.info("Training goes on after epoch %d (%s)", len(state.log), folder)
        while len(state.log) < _last_epoch(state, model_config):
            epoch = len(state.log) + 1
            started = time.monotonic()
            loss = _run_epoch(model, optimiser, objective, model_config.batch_size, seed, epoch)
            ndcg = ndcg_at_10(model, watch)
            if ndcg > state.best or not len(watch.contexts):
                state.best, state.best_epoch = ndcg, epoch
                save_weights(folder, model)
            seconds = round(time.monotonic() - started, 3)
            state.log.append({"epoch": epoch, "loss": loss, "ndcg@10": ndcg, "seconds": seconds})
            _write_log(folder, state.log)
            save_checkpoint(folder, model, optimiser, asdict(state))
            progress(epoch, _last_epoch(state, model_config), "epochs", _note(state, model_config))
    summary = TrainingSummary(
        epochs=len(state.log),
        best_epoch=state.best_epoch,
        ndcg=state.best,
        users=len(objective.rows),
        seconds=round(sum(entry["seconds"] for entry in state.log), 3),
        threads=threads,
        device=target.type,
    )
    save_description(folder, model_config, items, {"seed": seed, "training": asdict(summary)})
    remove_checkpoint(folder)
    return summary


def ndcg_at_10(model: Model, watch: Watch) -> float:
    """Mean of 1 / log2(1 + rank) over watched users, 0 for a rank beyond 10; 0 where nobody is watched."""
    if not len(watch.contexts):
        return 0.0
    rank = ranks(model, watch.contexts, watch.targets, watch.exclude)
    return float(np.where(rank <= 10, 1 / np.log2(1.0 + rank), 0.0).mean())


def _run_epoch(
    model: Model, optimiser: torch.optim.Optimizer, objective: Objective, batch_size: int, seed: int, epoch: int
) -> float:
    """One pass over the users; the mean loss per user. All that is random follows from seed and epoch."""
    draws = _seeds(seed, epoch)
    torch.manual_seed(next(draws))  # dropout
    batches = plan_epoch(objective.rows, batch_size, next(draws))
    total = torch.zeros((), device=model.device)
    model.train()
    for batch in batches:
        rows = torch.from_numpy(batch).to(model.device)
        loss = objective(model, rows, next(draws))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        total += loss.detach() * len(rows)
    return float(total) / len(objective.rows)


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
    (folder / LOG).write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def _signature(
    config: Recommender,
    histories: Histories,
    items: int,
    seed: int,
    watch: Watch,
    enhanced: Histories | None,
    alpha: NDArray[np.float64] | None,
    context: NDArray[np.int64] | None,
    device: str,
) -> str:
    """Digest of all that a training depends on, so that a checkpoint is never continued on other data."""
    digest = hashlib.sha256(f"{config.model_dump_json()} {items} {seed} {device}".encode())
    for sequences in (histories, watch.contexts, watch.exclude, enhanced):
        if sequences is not None:
            for part in (sequences.users, sequences.offsets, sequences.items):
                digest.update(np.ascontiguousarray(part).tobytes())
    for values in (watch.targets, alpha, context):
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
