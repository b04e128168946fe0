"""Successive halving (Jamieson & Talwalkar, AISTATS 2016): many begin, few are trained to their end.

All trials are trained for a few epochs; the best third goes on to three times as many, the best third of these to
their end. A ninth of a training says little about a trial, but enough about a hopeless one. Where there is less to try
than the budget is enough for, more go on: the best half, or all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

ETA = 3
RUNGS = 3


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        rungs: epochs after which each rung ends, ascending; at the last one a trial goes on to its own end.
        sizes: trials at each.
    """

    rungs: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, trials: int, full: int, eta: int = ETA) -> Plan:
        """
        Args:
            full: epochs of a whole training.
            eta: one of so many goes on.
        """
        if not trials:
            return cls((), ())
        rungs = sorted({math.ceil(full / ETA**k) for k in range(RUNGS)})
        return cls(tuple(rungs), tuple(max(1, trials // eta**k) for k in range(len(rungs))))

    @classmethod
    def within(cls, epochs: float, full: int, least: int, most: int) -> Plan:
        """The plan with the most trials that these epochs are enough for; at least and at most so many."""
        if not most:
            return cls.of(0, full)
        every = (cls.of(most, full, eta) for eta in range(1, ETA))
        fewer = (cls.of(trials, full) for trials in range(most, least, -1))
        fitting = (plan for plan in chain(every, fewer) if plan.costs[-1] <= epochs)
        return next(fitting, cls.of(least, full))

    @property
    def costs(self) -> Sequence[int]:
        """Epochs up to the end of each rung, over all trials."""
        lengths = [after - before for before, after in pairwise((0, *self.rungs))]
        return list(accumulate(size * length for size, length in zip(self.sizes, lengths, strict=True)))

    @property
    def shares(self) -> list[float]:
        """Of all that the plan costs, what is spent by the end of each rung."""
        return [cost / self.costs[-1] for cost in self.costs]
