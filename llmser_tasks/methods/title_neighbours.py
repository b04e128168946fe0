"""Items whose titles are closest to those of a user's latest items: whose texts are, where the dataset's `item_text`
makes them of more than titles."""

from __future__ import annotations

import numpy as np

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.methods.counting import Counted, Test, distinct
from llmser_tasks.methods.similarity import Titles, near
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = Method(title="title neighbours", place=1, needs=("item-vectors",), charted=False, colour="fifth")


def rank(test: Test, progress: Progress = silent) -> Counted:
    """Rank each target by Σ_k cos(title, title of the k-th item from the end) / k.

    No number in this counter is tuned: 1 / k is what co-occurrence gives that item, too. An item without a title ranks
    after all that have one; to a history without any title all items are equally near.
    """
    titles = Titles.distinct(ItemVectors.read(test.folders["item-vectors"]))
    contexts, targets, of, copies = test.contexts, test.targets, titles.of, titles.copies
    full = np.empty(len(targets), np.int32)
    sampled = {seed: np.empty(len(targets), np.int32) for seed in test.negatives}
    for part in near(contexts, titles, lambda k: 1 / k):
        chunk, cosines = part.rows, part.cosines
        wanted, rows = targets[chunk], np.arange(len(part.known))
        own = cosines[rows, of[wanted]]
        before = (cosines >= own[:, None]).astype(np.float32) @ copies - 1  # the target itself
        blind = ~part.known | (of[wanted] < 0)
        before[blind] = test.items - 1
        owner, seen = distinct(contexts.select(np.arange(chunk.start, chunk.stop)))
        excluded = blind[owner] | (of[seen] >= 0) & (cosines[owner, of[seen]] >= own[owner])
        excluded &= seen != wanted[owner]
        full[chunk] = 1 + before.astype(np.int32) - np.bincount(owner[excluded], minlength=len(rows))
        for seed, every in test.negatives.items():
            drawn = every[chunk]
            ahead = (of[drawn] >= 0) & (cosines[rows[:, None], of[drawn]] >= own[:, None]) | blind[:, None]
            sampled[seed][chunk] = 1 + (ahead & (drawn > 0)).sum(axis=1)
        progress(chunk.stop, len(targets), "users", DECLARED.title)
    return Counted(full, sampled)
