"""DCT, Dual-Channel Training (§3.4, Eq. 9): L = (1/|B|) Σ_u [(1 - α_u) · L(S_u) + α_u · L(S̃_u)]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories


def dual_channel(
    histories: Histories,
    enhanced: Histories,
    alpha: NDArray[np.floating],
    context: NDArray[np.int64] | None = None,
) -> list[WeightedTerm]:
    """The next item on S_u and the next item on S̃_u, as `recommenders.train` takes them.

    α is each user's own and |B| counts users, whatever their α. A channel whose weight is 0 is not computed.

    Args:
        histories: S_u.
        enhanced: S̃_u of the same users.
        alpha: (U,) α_u.
        context: (U,) how many of each enhanced sequence's first items are shown but never targets: its pseudo items,
            where Eq. 7's t = 1 … n_u is taken at its word. None: every item of S̃_u is a target too.

    Raises:
        InputError: the three do not fit each other.
    """
    if alpha.shape != (len(histories),) or not ((alpha >= 0) & (alpha <= 1)).all():
        raise InputError(f"Dual-channel training needs a weight α between 0 and 1 for each of {len(histories)} users.")
    if not np.array_equal(enhanced.users, histories.users):
        raise InputError("Dual-channel training needs an enhanced sequence for exactly the users with a history.")
    share = alpha.astype(np.float32)
    return [WeightedTerm(histories, 1 - share), WeightedTerm(enhanced, share, context)]
