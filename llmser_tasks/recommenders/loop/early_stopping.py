"""What early stopping looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import ranks, states_of
from llmser_tasks.sequences.histories import Histories


@dataclass(frozen=True)
class Watch:
    """Full-ranking NDCG@10 of known next items decides which epoch is best.

    Attributes:
        contexts: the sequences a model is shown, one row per watched user.
        targets: (len(contexts),) the item that came next.
        exclude: items a user is not asked about, usually the history; never the target.
    """

    contexts: Histories
    targets: NDArray[np.int32]
    exclude: Histories

    @classmethod
    def of(cls, contexts: Histories, targets: NDArray[np.int32], exclude: Histories) -> Watch:
        """Those of these users whose item is new to them; all three have the same rows.

        The history is excluded from the ranking: an item that somebody had before would be the only one of it left to
        rank, and so give itself away.
        """
        new = ~exclude.hold(targets)
        return cls(contexts.select(new), targets[new], exclude.select(new))


@dataclass(frozen=True)
class Seen:
    """What a model makes of the watched contexts, for all who ask before its weights change: whoever is to be judged by
    it may also teach others (`terms.teachers`).

    Attributes:
        own: (len(contexts),) bool, of which this process of a group knows it.
        states: (those, w) in their order.
    """

    contexts: Histories
    own: NDArray[np.bool_]
    states: Tensor

    @classmethod
    def by(cls, model: Model, watch: Watch, group: ProcessGroup = ALONE) -> Seen:
        own = group.own(len(watch.contexts)).numpy()
        return cls(watch.contexts, own, states_of(model, watch.contexts.select(own)))


def ndcg_at_10(model: Model, watch: Watch, seen: Seen, group: ProcessGroup = ALONE) -> float:
    """Mean of 1 / log2(1 + rank) over watched users, 0 for a rank beyond 10; 0 where nobody is watched.

    Each process of a group ranks for its own share. They exchange counts, so all find the same number.
    """
    if not len(watch.contexts):
        return 0.0
    contexts, targets = watch.contexts.select(seen.own), watch.targets[seen.own]
    rank = ranks(model, contexts, targets, watch.exclude, states=seen.states)
    times = group.total(torch.from_numpy(np.bincount(rank[rank <= 10], minlength=11)).to(model.device)).cpu().numpy()
    return float((times[1:] / np.log2(np.arange(2, 12))).sum() / len(watch.contexts))
