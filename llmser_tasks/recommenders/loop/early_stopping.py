"""What early stopping looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import ranks
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


def ndcg_at_10(model: Model, watch: Watch, group: ProcessGroup = ALONE) -> float:
    """Mean of 1 / log2(1 + rank) over watched users, 0 for a rank beyond 10; 0 where nobody is watched.

    Each process of a group ranks for its own share. They exchange counts, so all find the same number.
    """
    if not len(watch.contexts):
        return 0.0
    own = group.own(len(watch.contexts)).numpy()
    rank = ranks(model, watch.contexts.select(own), watch.targets[own], watch.exclude)
    times = group.total(torch.from_numpy(np.bincount(rank[rank <= 10], minlength=11)).to(model.device)).cpu().numpy()
    return float((times[1:] / np.log2(np.arange(2, 12))).sum() / len(watch.contexts))
