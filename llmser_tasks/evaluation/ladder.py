"""What each part of a method brought: the methods of a run from the reference up, each with more parts than the one
before.

A part is an item table, an addition, or the method itself in the reference's place. Where the run has no method
between two, the rung adds several parts at once: nobody can say from this run which of them it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from llmser_tasks.core.kinds import METHODS, REFERENCE, WITH
from llmser_tasks.evaluation.groups import Mask
from llmser_tasks.evaluation.metrics import Floats
from llmser_tasks.evaluation.significance import PairedTest, judged

GROUPS = ("all", "tail users")
COLUMNS = (
    "place", "user_group", "method", "previous", "added", "previous_mean", "mean", "difference", "low", "high", "p",
    "p_holm", "level", "seeds", "stars",
)  # fmt: skip


def beside_reference(chosen: str, validation: Mapping[str, float]) -> str:
    """The method to show beside the reference: the one readers are given or, if that is the reference, the best of the
    others; the reference itself if there are none.

    Args:
        validation: NDCG@10 on validation items per method.
    """
    others = [name for name in validation if name != REFERENCE]
    return chosen if chosen != REFERENCE or not others else max(others, key=lambda name: validation[name])


def ladder(methods: Collection[str], top: str) -> list[str]:
    """As many of these methods as lead from the reference to `top`, each with all parts of the one before and more.

    Of several such ways it is the one whose methods stand first in tables: item tables are added before what is added
    to scores, and that before another method takes the reference's place.
    """
    return _onward(REFERENCE, [name for name in METHODS.sorted(methods) if _parts(name) <= _parts(top)])


def climb(
    steps: Sequence[str], values: Mapping[str, Floats], masks: Mapping[str, Mask], seeds: int
) -> list[dict[str, Any]]:
    """What every rung of a ladder adds to NDCG@10, a row (COLUMNS) per rung and group: each method against the one
    before it, paired over users; p is corrected over all of them.

    Args:
        steps: methods from the reference up.
        values: (U,) NDCG@10 of every user per method, mean over the seeds.
        masks: groups of users; all of GROUPS that there are count.
        seeds: how many trainings the values are means of.

    Returns:
        Rows whose `place` is that of the rung, from 1, and whose `added` are its parts as names write them.
    """
    rows, tests = [], []
    for place, (previous, method) in enumerate(pairwise(steps), start=1):
        added = [part for part in method.split(WITH) if part not in previous.split(WITH)]
        for group in GROUPS:
            if group not in masks:
                continue
            before, now = (values[name][masks[group]] for name in (previous, method))
            tests.append(PairedTest.of(now - before))
            rows.append(
                {"place": place, "user_group": group, "method": method, "previous": previous}
                | {"added": WITH.join(added), "previous_mean": float(before.mean()), "mean": float(now.mean())}
            )
    return [row | said for row, said in zip(rows, judged(tests, [seeds] * len(tests)), strict=True)]


def _parts(name: str) -> frozenset[str]:
    """What a method has that the reference has not."""
    return frozenset(name.split(WITH)) - {REFERENCE}


def _onward(name: str, among: Sequence[str]) -> list[str]:
    """The longest way on from a method; of equals the first."""
    ways = (_onward(further, among) for further in among if _parts(name) < _parts(further))
    return [name, *max(ways, key=len, default=[])]
