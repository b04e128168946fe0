"""How the tokens of a batch lie in memory: flat, so that hardly any padding is computed.

What treats every token alike (projections, norms, dropout) runs once over all of them. Attention sees long rows as
lines of their own; short ones follow one another on a CPU, and on a GPU share lines, as many as fit. A recurrence goes
through row after row on a CPU, and on a GPU step by step through all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.loop.minibatches import length_groups
from llmser_tasks.sequences.histories import ranges

SHORT = 64  # tokens of a row up to which, on a CPU, loops over rows beat matrix products and their copies
LINE = 32  # places of a line that rows share on a GPU: attention over 16 to 64 costs about the same


@dataclass(frozen=True)
class Group:
    """Neighbouring lines of equally many places. A line holds

    - "one" row, then empty places,
    - "several" rows, one after another, then empty places, or
    - "all" of the short rows, one after another, with no empty place.
    """

    lines: int
    places: int
    rows: Literal["one", "several", "all"] = "one"


@dataclass(frozen=True)
class Layout:
    """Where the tokens of B rows lie among T places.

    Attributes:
        groups: in order; a group has lines × places places, line after line.
        start: (B,) the place of each row's first token; the others follow it.
        lengths: (B,) tokens of each row.
        owner: (T,) the row that has each place, -1 where a place is empty.
        column: (T,) how many tokens of the same row come before; 0 where a place is empty.
    """

    groups: Sequence[Group]
    start: Tensor
    lengths: Tensor
    owner: Tensor
    column: Tensor

    @classmethod
    def packed(cls, lengths: Tensor) -> Layout:
        """Rows of up to SHORT tokens first, longer ones in lines of their own; lengths (B,) are at least 1."""
        return cls.in_lines(lengths) if devices.on_gpu(lengths) else cls.back_to_back(lengths)

    @classmethod
    def back_to_back(cls, lengths: Tensor) -> Layout:
        """Short rows follow one another."""
        known = lengths.cpu().numpy()
        short = np.where(known <= SHORT, known, 0)
        start = np.cumsum(short) - short
        taken = int(short.sum())
        groups = [Group(1, taken, "all")] if taken else []
        groups += _line_up(known, np.flatnonzero(known > SHORT), start, taken, devices.on_gpu(lengths))
        return cls._of(groups, start, known, lengths)

    @classmethod
    def in_lines(cls, lengths: Tensor) -> Layout:
        """Short rows share lines."""
        known = lengths.cpu().numpy()
        short = np.flatnonzero(known <= LINE)
        start = np.zeros(len(known), np.int64)
        start[short], lines = pack(known[short], LINE)
        groups = [Group(lines, LINE, "several")] if lines else []
        groups += _line_up(known, np.flatnonzero(known > LINE), start, lines * LINE, devices.on_gpu(lengths))
        return cls._of(groups, start, known, lengths)

    @classmethod
    def _of(
        cls, groups: Sequence[Group], start: NDArray[np.int64], known: NDArray[np.int64], lengths: Tensor
    ) -> Layout:
        """`known` are the lengths, already off the device."""
        size, row = sum(group.lines * group.places for group in groups), np.repeat(np.arange(len(known)), known)
        place = ranges(start, known)
        owner, column = np.full(size, -1), np.zeros(size, np.int64)
        owner[place] = row
        column[place] = place - start[row]
        on_device = (torch.from_numpy(array).to(lengths.device) for array in (owner, column))
        return cls(groups, torch.from_numpy(start).to(lengths.device), lengths, *on_device)

    def lay(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens → (T,), 0 where a place is empty."""
        return torch.where(self.owner >= 0, tokens[self.owner, self.column], 0)

    def twice(self) -> Twice:
        """Each row a second time, so that two things seen at every place go through an encoder together."""
        doubled = Layout.packed(torch.cat([self.lengths, self.lengths]))
        size = len(self.owner)
        if len(self.groups) == 1 and self.groups[0].rows == "all":
            return Twice(doubled, size, None, None)
        rows = len(self.lengths)
        second = doubled.owner >= rows
        row = torch.where(second, doubled.owner - rows, doubled.owner)
        origin = torch.where(doubled.owner >= 0, self.start[row] + doubled.column + second * size, 0)
        places = torch.zeros(2 * size, dtype=torch.int64, device=origin.device)
        taken = torch.nonzero(doubled.owner >= 0)[:, 0]
        places[origin[taken]] = taken
        return Twice(doubled, size, origin, places)

    def split(self, flat: Tensor) -> list[Tensor]:
        """(T, …) → a (lines, places, …) tensor per group."""
        sizes = [group.lines * group.places for group in self.groups]
        parts = torch.split(flat, sizes) if len(sizes) > 1 else [flat]  # a split's gradient is a copy
        return [part.view(g.lines, g.places, *flat.shape[1:]) for part, g in zip(parts, self.groups, strict=True)]

    def by_step(self) -> tuple[Tensor, Tensor]:
        """(Σ lengths,) places, all rows' first tokens before their second ones, longer rows first; and (longest,), on
        the CPU, how many rows have a token at each step: what `PackedSequence` takes."""
        taken = torch.nonzero(self.owner >= 0)[:, 0]
        by_length = self.lengths.argsort(descending=True, stable=True)
        rank = torch.empty_like(by_length).index_copy_(0, by_length, torch.arange(len(by_length), device=taken.device))
        step = self.column[taken]
        order = (step * len(by_length) + rank[self.owner[taken]]).argsort()
        return taken[order], torch.bincount(step).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """A (lines, places, …) tensor per group → (T, …)."""
        flat = [part.flatten(0, 1) for part in parts]
        return flat[0] if len(flat) == 1 else torch.cat(flat)


@dataclass(frozen=True)
class Twice:
    """A layout of T places, with every row in it a second time.

    Attributes:
        layout: of all these rows; it has T₂ places.
        size: T.
        origin: (T₂,) where what lies at each of its places comes from: a place of the first, or T and one of the
            second; None: the first's places are followed by the second's.
        places: (2T,) where each of these lies.
    """

    layout: Layout
    size: int
    origin: Tensor | None
    places: Tensor | None

    def stack(self, first: Tensor, second: Tensor) -> Tensor:
        """(T, …) and (T, …) → (T₂, …)."""
        both = torch.cat([first, second])
        return both if self.origin is None else both.index_select(0, self.origin)

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """(T₂, …) → (T, …) and (T, …)."""
        both = flat if self.places is None else flat.index_select(0, self.places)
        first, second = torch.split(both, self.size)
        return first, second


def pack(lengths: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], int]:
    """Put sequences of up to `size` tokens into lines of `size` places: longest first, each where it fits best.

    Returns:
        (n,) the place of each one's first token, and the number of lines.
    """
    start = np.zeros(len(lengths), np.int64)
    with_room: list[list[int]] = [[] for _ in range(size)]  # lines by how many places they have left
    lines = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        room = next((room for room in range(length, size) if with_room[room]), size)
        if room < size:
            line = with_room[room].pop()
        else:
            line, lines = lines, lines + 1
        start[row] = line * size + size - room
        with_room[room - length].append(line)
    return start, lines


def _line_up(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], start: NDArray[np.int64], place: int, cuda: bool
) -> list[Group]:
    """Give each of `rows` a line of its own from `place` on, at the least cost; writes their `start`.

    On a GPU all go together: computing padding takes it less time than starting more kernels.
    """
    if not len(rows):
        return []
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    groups: list[Group] = []
    for run in [slice(None)] if cuda else length_groups(lengths[ordered]):
        together = ordered[run]
        groups.append(Group(len(together), int(lengths[together].max())))
        start[together] = place + np.arange(len(together)) * groups[-1].places
        place += len(together) * groups[-1].places
    return groups
