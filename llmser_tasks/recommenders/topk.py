"""Scoring with a trained model: top-k items and ranks for all users, in chunks that bound memory.

Something may be added to the scores (`added`, by default nothing); its rows are those of the contexts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.added import Added
from llmser_tasks.recommenders.items.table import Gathered
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.model import Model
from llmser_tasks.sequences.histories import Histories

SCORES = 1 << 21  # floats gathered at once for sampled ranks: 8 MB, which stay in cache
TILE = (256, 1024)  # users × items whose scores are compared while in a CPU's cache: 2 × faster than whole rows …
TOP_TILE = (256, 4096)  # … and whose highest are searched for, which takes longer to set up
TILE_CUDA = (4096, 1 << 15)
TOKENS = 1 << 14  # tokens encoded at once

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@torch.inference_mode()
def top_k(
    model: Model,
    contexts: Histories,
    k: int,
    exclude: Histories,
    progress: Progress = silent,
    added: Added | None = None,
) -> tuple[Ints, Floats]:
    """The k likeliest next items of every context.

    Args:
        exclude: items that must not be recommended, by user; users it does not know have nothing excluded.

    Returns:
        items (U, k) likeliest first, equal scores by ascending id, and their scores (U, k). Where fewer than k items
        are left, the rest is item 0 with score -inf. The model scores every item 0 after an empty context.
    """
    items = np.zeros((len(contexts), k), np.int32)
    scores = np.full((len(contexts), k), -np.inf, np.float32)
    barred = _barred(contexts, exclude)
    with _scoring(model) as everything:
        table = everything.vectors[1 : model.items + 1]
        height, width = TILE_CUDA if devices.on_gpu(table) else TOP_TILE
        states = encode(model, contexts, everything)
        for start in range(0, len(contexts), height):
            rows = np.arange(start, min(start + height, len(contexts)))
            best = torch.full((len(rows), k), -torch.inf, device=table.device)
            found = torch.zeros((len(rows), k), dtype=torch.long, device=table.device)
            scorer = _Scorer(states[start : start + height], table, rows, added)
            for first, tile in scorer.tiles(*_pairs(barred.select(rows)), width):
                better = torch.nonzero(tile.amax(1) > best[:, -1])[:, 0]  # few, once the likeliest have been seen
                new, column = tile[better].topk(min(k, tile.shape[1]), dim=1)
                best[better], found[better] = _likeliest(
                    torch.cat([best[better], new], dim=1), torch.cat([found[better], column + first + 1], dim=1), k
                )
            items[rows] = found.masked_fill(best == -torch.inf, 0).cpu().numpy()
            scores[rows] = best.cpu().numpy()
            progress(int(rows[-1]) + 1, len(contexts), "users")
    return items, scores


def _likeliest(scores: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row's scores, highest first and equal ones by ascending item, and their items."""
    order = items.sort(dim=1)[1]
    by_item = scores.gather(1, order)
    highest = by_item.sort(dim=1, descending=True, stable=True)[1][:, :k]
    return by_item.gather(1, highest), items.gather(1, order).gather(1, highest)


@torch.inference_mode()
def ranks(
    model: Model,
    contexts: Histories,
    targets: Ints,
    exclude: Histories,
    added: Added | None = None,
    states: Tensor | None = None,
) -> Ints:
    """(U,) 1-based rank of each target among all items but the excluded. The target itself is never excluded.

    Every other item that scores the same as the target, or NaN, ranks before it.

    Args:
        states: what `states_of` says of these contexts, where it is known.
    """
    result = np.zeros(len(contexts), np.int32)
    for rows, wanted, tiles in _beside_targets(model, contexts, targets, exclude, added, states):
        below = torch.zeros(len(rows), dtype=torch.int32, device=wanted.device)
        for _, tile in tiles:
            below += _count(tile < wanted)
        result[rows] = _from_below(below, model.items)
    return result


@torch.inference_mode()
def ranks_by_share(
    model: Model,
    contexts: Histories,
    targets: Ints,
    exclude: Histories,
    added: Added,
    shares: Sequence[float],
    progress: Progress = silent,
) -> Ints:
    """(S, U) what `ranks` finds when each of `shares` of `added` is added, in one pass; `added` has to be finite."""
    result = np.zeros((len(shares), len(contexts)), np.int32)
    done = 0
    for rows, wanted, tiles in _beside_targets(model, contexts, targets, exclude):
        below = torch.zeros(len(shares), len(rows), dtype=torch.int32, device=wanted.device)
        own = added.of(rows, torch.from_numpy(targets[rows].astype(np.int64)).to(wanted.device)[:, None])
        for first, tile in tiles:
            more = added.tile(rows, first, first + tile.shape[1])
            for share, total in zip(shares, below, strict=True):
                total += _count(tile + more * share < wanted + own * share)
        result[:, rows] = _from_below(below, model.items)
        done += len(rows)
        progress(done, len(contexts), "users")
    return result


def _beside_targets(
    model: Model,
    contexts: Histories,
    targets: Ints,
    exclude: Histories,
    added: Added | None = None,
    states: Tensor | None = None,
) -> Iterator[tuple[NDArray[np.int64], Tensor, Iterator[tuple[int, Tensor]]]]:
    """A few contexts at a time: which they are (B,), their targets' scores (B, 1), and all items' scores, tile by tile.

    What is excluded scores -inf, and so does the target.
    """
    barred, column = _barred(contexts, exclude), targets.astype(np.int64) - 1
    order = np.argsort(column, kind="stable")  # the targets of neighbours are in few tiles
    with _scoring(model) as everything:
        table = everything.vectors[1 : model.items + 1]
        height, width = TILE_CUDA if devices.on_gpu(table) else TILE
        states = encode(model, contexts, everything) if states is None else states
        for start in range(0, len(order), height):
            rows = np.sort(order[start : start + height])
            scorer = _Scorer(states[torch.from_numpy(rows).to(table.device)], table, rows, added)
            owner, away = _pairs(barred.select(rows))
            owner, away = np.append(owner, np.arange(len(rows))), np.append(away, column[rows])
            yield rows, scorer.own(column[rows], width), scorer.tiles(owner, away, width)


def _count(where: Tensor) -> Tensor:
    """(B,) how many of each row are true."""
    return where.view(torch.uint8).sum(1, dtype=torch.int32)  # 20 × faster than count_nonzero


def _from_below(below: Tensor, items: int) -> Ints:
    """Ranks, from how many items score less than the target."""
    found: Ints = (items + 1 - below).clamp(max=items).cpu().numpy()
    return found


@torch.inference_mode()
def sampled_ranks(
    model: Model, contexts: Histories, targets: Ints, negatives: Ints, added: Added | None = None
) -> Ints:
    """(U,) 1-based rank of each target among itself and its row of `negatives` (U, n); ties count against the model.

    A negative that is 0 (there were too few) or the target itself is passed over.
    """
    result = np.ones(len(contexts), np.int32)
    step = max(1, SCORES // max(1, negatives.shape[1] * model.item_table.width))
    with _scoring(model) as everything:
        states = encode(model, contexts, everything)
        for start in range(0, len(contexts), step):
            rows = slice(start, start + step)
            target = torch.from_numpy(targets[rows].astype(np.int64)).to(model.device)[:, None]
            others = torch.from_numpy(negatives[rows].astype(np.int64)).to(model.device)
            candidates = torch.cat([target, others], dim=1)
            scores = torch.bmm(everything.vectors[candidates], states[rows, :, None])[:, :, 0]
            if added is not None:
                scores += added.of(np.arange(start, start + len(target)), candidates)
            counts = (others != 0) & (others != target)
            result[rows] += (counts & ~(scores[:, 1:] < scores[:, :1])).sum(1).cpu().numpy().astype(np.int32)
    return result


@torch.inference_mode()
def states_of(model: Model, contexts: Histories) -> Tensor:
    """(U, w) state of every context, with dropout off."""
    with _scoring(model) as everything:
        return encode(model, contexts, everything)


@torch.inference_mode()
def encode(model: Model, contexts: Histories, everything: Gathered) -> Tensor:
    """(U, w) state of every context, on the device of a model that is not training.

    Args:
        everything: all rows of its item table, which are made once and not for every chunk of users.

    Raises:
        InputError: items are marked, and the model has learned no mark.
    """
    if contexts.any_marked and model.mark is None:
        raise InputError("A model that was trained without marks was shown marked items; show it the items unmarked.")
    sequences = Sequences.of(contexts, model.device)
    lengths = np.minimum(contexts.lengths, model.max_length)
    order = np.argsort(lengths, kind="stable")
    states = torch.empty(len(contexts), model.item_table.width, device=model.device)
    step = max(1, TOKENS // model.max_length)
    for start in range(0, len(order), step):  # rows of like length together
        rows = torch.from_numpy(order[start : start + step]).to(model.device)
        states[rows] = model.encode(*sequences.gather(rows, model.max_length), everything)
    return states


@contextmanager
def _scoring(model: Model) -> Iterator[Gathered]:
    """All rows of a model's item table, with dropout off and threads pinned."""
    was_training = model.training
    model.eval()
    try:
        with pinned_threads():
            yield model.item_table.everything()
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class _Scorer:
    """Scores of a few contexts, a stretch of items after another: the last one may be narrower.

    Attributes:
        block: (B, w) their states.
        table: (I, w) vectors of the items.
        rows: (B,) which contexts these are.
    """

    block: Tensor
    table: Tensor
    rows: NDArray[np.int64]
    added: Added | None

    def at(self, first: int, width: int) -> Tensor:
        """(B, ≤ width) scores from column `first` on. Asked for twice, they are the same to the bit."""
        scores = self.block @ self.table[first : first + width].T
        return scores if self.added is None else scores.add_(self.added.tile(self.rows, first, first + scores.shape[1]))

    def own(self, column: NDArray[np.int64], width: int) -> Tensor:
        """(B, 1) score of one column per row, from the very products behind the others' scores, so that equals stay
        equal.
        """
        scores = torch.empty(len(self.block), 1, device=self.block.device)
        for first in np.unique(column // width) * width:
            here = np.flatnonzero(column // width * width == first)
            scores[here] = self.at(int(first), width)[here, column[here] - first][:, None]
        return scores

    def tiles(self, owner: NDArray[np.int64], away: NDArray[np.int64], width: int) -> Iterator[tuple[int, Tensor]]:
        """All scores, one stretch of `width` columns after another, each with its first column.

        Row owner[i] scores -inf at column away[i].
        """
        by_item = np.argsort(away, kind="stable")
        firsts = range(0, len(self.table), width)
        ends = np.searchsorted(away[by_item], [*firsts, len(self.table)])
        for first, since, until in zip(firsts, ends[:-1], ends[1:], strict=True):
            tile = self.at(first, width)
            here = by_item[since:until]
            tile[owner[here], away[here] - first] = -torch.inf
            yield first, tile


def _barred(contexts: Histories, exclude: Histories) -> Histories:
    """What is excluded for the user of every context; same rows."""
    nothing = Histories(contexts.users, np.zeros(len(contexts) + 1, np.int64), np.zeros(0, np.int32))
    return nothing.then(exclude)


def _pairs(histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Σ n,) the row of every item, and (Σ n,) its column among the items 1 … I."""
    return np.repeat(np.arange(len(histories)), histories.lengths), histories.items.astype(np.int64) - 1
