"""Scoring with a trained model: top-k items and ranks for all users, in chunks that bound memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.progress import Progress, silent
from llmser_tasks.recommenders.batches import Sequences
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.threads import pinned_threads
from llmser_tasks.sequences.histories import Histories

SCORES = 1 << 21  # scores held at once: 8 MB of floats stay in cache …
SCORES_CUDA = 1 << 27  # … and 512 MB keep a GPU busy
TILE = (
    256,
    1024,
)  # users × items whose scores are compared while they are in a CPU's cache: 2 × faster than whole rows
TILE_CUDA = (4096, 1 << 15)
TOKENS = 1 << 14  # tokens encoded at once

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@torch.inference_mode()
def top_k(
    model: Model, contexts: Histories, k: int, exclude: Histories, progress: Progress = silent
) -> tuple[Ints, Floats]:
    """The k likeliest next items of every context.

    Args:
        exclude: items that must not be recommended, by user; users it does not know have nothing excluded.

    Returns:
        items (U, k) likeliest first, equal scores by ascending id, and their scores (U, k). Where fewer than k items
        are left, the rest is item 0 with score -inf. An empty context scores every item 0.
    """
    items = np.zeros((len(contexts), k), np.int32)
    scores = np.full((len(contexts), k), -np.inf, np.float32)
    width = min(k, model.items)
    with pinned_threads():
        for rows, block in _score_blocks(model, contexts, exclude):
            best, found = block.topk(width, dim=1)
            order = found.sort(dim=1)[1]  # by id, then stably by score: equal scores stand in id order
            best, found = best.gather(1, order), found.gather(1, order)
            order = best.sort(dim=1, descending=True, stable=True)[1]
            best, found = best.gather(1, order), found.gather(1, order) + 1
            scores[rows, :width] = best.cpu().numpy()
            items[rows, :width] = torch.where(best == -torch.inf, 0, found).cpu().numpy()
            progress(rows.stop, len(contexts), "users")
    return items, scores


@torch.inference_mode()
def ranks(model: Model, contexts: Histories, targets: Ints, exclude: Histories) -> Ints:
    """(U,) 1-based rank of each target among all items but the excluded. The target itself is never excluded.

    Every other item that scores the same as the target, or not a number, stands before it.
    """
    result = np.zeros(len(contexts), np.int32)
    table, barred, column = model.table[1:], _barred(contexts, exclude), targets.astype(np.int64) - 1
    height, width = TILE_CUDA if table.is_cuda else TILE
    order = np.argsort(column, kind="stable")  # the targets of neighbours lie in few tiles
    with pinned_threads():
        states = encode(model, contexts)
        for start in range(0, len(order), height):
            rows = np.sort(order[start : start + height])
            block = states[torch.from_numpy(rows).to(table.device)]
            wanted = _own_scores(block, table, column[rows], width)
            owner, away = _pairs(barred.select(rows))
            owner, away = np.append(owner, np.arange(len(rows))), np.append(away, column[rows])
            by_item = np.argsort(away, kind="stable")
            firsts = range(0, model.items, width)
            ends = np.searchsorted(away[by_item], [*firsts, model.items])
            below = torch.zeros(len(rows), dtype=torch.int32, device=table.device)
            for first, since, until in zip(firsts, ends[:-1], ends[1:], strict=True):
                tile = block @ table[first : first + width].T
                here = by_item[since:until]
                tile[owner[here], away[here] - first] = -torch.inf
                below += (tile < wanted).view(torch.uint8).sum(1, dtype=torch.int32)  # 20 × faster than count_nonzero
            result[rows] = (model.items + 1 - below).clamp(max=model.items).cpu().numpy()
    return result


def _own_scores(block: Tensor, table: Tensor, column: NDArray[np.int64], width: int) -> Tensor:
    """(B, 1) score of one item per row, from the very products that the others' scores come from: equals stay equal."""
    scores = torch.empty(len(block), 1, device=block.device)
    for first in np.unique(column // width) * width:
        here = np.flatnonzero(column // width * width == first)
        scores[here] = (block @ table[first : first + width].T)[here, column[here] - first][:, None]
    return scores


@torch.inference_mode()
def sampled_ranks(model: Model, contexts: Histories, targets: Ints, negatives: Ints) -> Ints:
    """(U,) 1-based rank of each target among itself and its row of `negatives` (U, n); ties count against the model.

    A negative that is 0 (there were too few) or the target itself is passed over.
    """
    result = np.ones(len(contexts), np.int32)
    step = max(1, SCORES // max(1, negatives.shape[1] * model.config.dimension))
    with pinned_threads():
        states = encode(model, contexts)
        for start in range(0, len(contexts), step):
            rows = slice(start, start + step)
            target = torch.from_numpy(targets[rows].astype(np.int64)).to(model.device)[:, None]
            others = torch.from_numpy(negatives[rows].astype(np.int64)).to(model.device)
            candidates = torch.cat([target, others], dim=1)
            scores = torch.bmm(model.table[candidates], states[rows, :, None])[:, :, 0]
            counts = (others != 0) & (others != target)
            result[rows] += (counts & ~(scores[:, 1:] < scores[:, :1])).sum(1).cpu().numpy().astype(np.int32)
    return result


@torch.inference_mode()
def encode(model: Model, contexts: Histories) -> Tensor:
    """(U, d) state of every context, on the model's device."""
    was_training = model.training
    model.eval()
    sequences = Sequences.of(contexts, model.device)
    lengths = np.minimum(contexts.lengths, model.max_length)
    order = np.argsort(lengths, kind="stable")
    states = torch.empty(len(contexts), model.config.dimension, device=model.device)
    step = max(1, TOKENS // model.max_length)
    for start in range(0, len(order), step):  # rows of like length together
        rows = torch.from_numpy(order[start : start + step]).to(model.device)
        states[rows] = model.encode(*sequences.gather(rows, model.max_length))
    model.train(was_training)
    return states


def _score_blocks(model: Model, contexts: Histories, exclude: Histories) -> Iterator[tuple[slice, Tensor]]:
    """Scores of items 1 … I for blocks of users: (rows, (B, I)), -inf where excluded."""
    states, barred = encode(model, contexts), _barred(contexts, exclude)
    items = model.table[1:].T
    step = max(1, (SCORES_CUDA if items.is_cuda else SCORES) // model.items)
    for start in range(0, len(contexts), step):
        rows = slice(start, min(start + step, len(contexts)))
        block = states[rows] @ items
        owner, column = _pairs(barred.select(np.arange(rows.start, rows.stop)))
        block[torch.from_numpy(owner).to(block.device), torch.from_numpy(column).to(block.device)] = -torch.inf
        yield rows, block


def _barred(contexts: Histories, exclude: Histories) -> Histories:
    """What is excluded for the user of every context; same rows."""
    nothing = Histories(contexts.users, np.zeros(len(contexts) + 1, np.int64), np.zeros(0, np.int32))
    return nothing.then(exclude)


def _pairs(histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Σ n,) the row of every item, and (Σ n,) its column among the items 1 … I."""
    return np.repeat(np.arange(len(histories)), histories.lengths), histories.items.astype(np.int64) - 1
