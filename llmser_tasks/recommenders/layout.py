"""How the tokens of a batch lie in memory: flat, rows of like length together, so that hardly any padding is computed.

What treats every token alike (projections, norms, dropout) runs once over all of them; only what relates the tokens of
a row (attention, recurrence) runs group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmser_tasks.recommenders.batches import length_groups


@dataclass(frozen=True)
class Group:
    """Neighbouring rows, each padded on the right to the longest of them; `full`: none is shorter."""

    rows: int
    longest: int
    full: bool


@dataclass(frozen=True)
class Layout:
    """T tokens of B rows.

    Attributes:
        groups: in order; a group of R rows has R × longest tokens, row after row.
        owner: (T,) the row that each token belongs to, ascending.
        column: (T,) its place in that row, from 0.
        lengths: (B,) how much of each row is real; a token whose column is not below it is padding.
    """

    groups: Sequence[Group]
    owner: Tensor
    column: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Layout:
        """Groups at the least cost for lengths (B,), ascending and at least 1.

        On a GPU all rows go together: it computes padding faster than it starts more kernels.
        """
        known = lengths.cpu().numpy()
        groups = [slice(0, len(known))] if lengths.is_cuda else length_groups(known)
        parts = [known[group] for group in groups]
        return cls._of([Group(len(p), int(p.max()), bool(p.min() == p.max())) for p in parts], lengths)

    @classmethod
    def rectangle(cls, lengths: Tensor, longest: int) -> Layout:
        """One group: the tokens of a (B, longest) matrix."""
        return cls._of([Group(len(lengths), longest, False)], lengths)

    @classmethod
    def _of(cls, groups: Sequence[Group], lengths: Tensor) -> Layout:
        widths = torch.tensor([g.longest for g in groups]).repeat_interleave(torch.tensor([g.rows for g in groups]))
        starts = widths.cumsum(0) - widths
        owner = torch.arange(len(widths)).repeat_interleave(widths)
        column = torch.arange(len(owner)) - starts[owner]
        return cls(groups, owner.to(lengths.device), column.to(lengths.device), lengths)

    @property
    def real(self) -> Tensor:
        """(T,) bool, false for padding."""
        return self.column < self.lengths[self.owner]

    def map(self, function: Callable[[Tensor, Group, Tensor], Tensor], flat: Tensor) -> Tensor:
        """Apply a function to each group as a (rows, longest, …) tensor, with its (rows,) lengths; flat again."""
        parts = torch.split(flat, [group.rows * group.longest for group in self.groups])
        lengths = torch.split(self.lengths, [group.rows for group in self.groups])
        mapped = [
            function(part.view(group.rows, group.longest, *flat.shape[1:]), group, known).flatten(0, 1)
            for part, group, known in zip(parts, self.groups, lengths, strict=True)
        ]
        return mapped[0] if len(mapped) == 1 else torch.cat(mapped)
