"""Pseudo-prior items (S_u^pse, §3.2): what SNF picked, in the order in which it precedes v_1. A reverse model predicts
the item next to v_1, so the likeliest pick comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core.config import Augmentation
from llmser_tasks.core.files import PSEUDO
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS

DECLARED = Step(title="Write pseudo-prior items", place=5, needs=("ccg", "snf"))

STEP = parts.PSEUDO
EMPTY_POOL = "CCG found no candidate"


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write every training user's pseudo-prior items: at most `pseudo_items` (M), none where nothing was usable.

    Columns of `pseudo.parquet`: user, items in sequence order (likeliest last), sources per item (strict, repaired,
    id-pattern, fuzzy, fill, ccg), reason where there are no items.

    They are what SNF picked in this run; without SNF, the first M of each pool in rank order.

    Raises:
        InputError: there are users who have not been asked yet.
    """

    augmentation = run.config.augmentation
    picks = None if parts.left_out(parts.SNF, run.config) else Picks.of_run(run, refs, parts.SNF)

    def write(folder: Path) -> dict[str, Any]:
        pools = Histories.read(run.folder(refs, "ccg") / POOLS)
        if picks is not None:
            picks.require(pools.users)
        rows = [_choose(pools, row, augmentation, picks, progress) for row in range(len(pools))]
        items = Histories.of(pools.users, [row[0] for row in rows])
        extra = {
            "sources": pa.array([row[1] for row in rows], pa.list_(pa.string())),
            "reason": pa.array([row[2] for row in rows], pa.string()),
        }
        pq.write_table(items.to_arrow(extra), folder / PSEUDO)
        filled = int((items.lengths > 0).sum())
        return {
            "users": len(items),
            "with_pseudo_items": filled,
            "pseudo_items": len(items.items),
            "mean_per_user": round(float(items.lengths.mean()), 3) if len(items) else 0.0,
        }

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"ccg": artefact(refs, "ccg")} | ({"picks": picks.content()} if picks is not None else {}),
        config={
            "pseudo_items": augmentation.pseudo_items,
            "fill": augmentation.fill and picks is not None,
            "snf": picks is not None,
        },
    )


def _choose(
    pools: Histories, row: int, augmentation: Augmentation, picks: Picks | None, progress: Progress
) -> tuple[Sequence[int], Sequence[str], str | None]:
    """One user's items in sequence order, their sources, and why there are none."""
    pool = pools[row].tolist()
    reason = None
    if picks is None:
        items, sources = pool[: augmentation.pseudo_items], ["ccg"] * min(len(pool), augmentation.pseudo_items)
        reason = None if items else EMPTY_POOL
    else:
        items, sources, reason = picks.of(int(pools.users[row]))
        items, sources = items[: augmentation.pseudo_items], sources[: augmentation.pseudo_items]
        if augmentation.fill and items:  # a short answer is filled up; a missing one stays missing, so that α is 0
            rest = [item for item in pool if item not in items][: augmentation.pseudo_items - len(items)]
            items, sources = items + rest, sources + ["fill"] * len(rest)
    progress(row + 1, len(pools), "users")
    return items[::-1], sources[::-1], reason
