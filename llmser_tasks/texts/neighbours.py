"""The rows of a matrix that are closest to each row by cosine: exact, tile by tile, so memory does not grow with U².

Rows that are equal to the last bit are compared once, so they have the very same cosine to every other row, whatever
the order of sums; that is what makes ties exact. A row of zeros (no text) is nobody's neighbour and has none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.threads import pinned_threads

BLOCK = 2048  # rows that are compared with as many others at once: 16 MB of cosines
FILE = "neighbours.safetensors"
NOBODY = -1  # where a row has fewer

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Neighbours:
    """Of n rows, the k closest others each, the closest first; equally close ones by row number.

    Attributes:
        rows: (n, k) row numbers; -1 where there are fewer.
        cosines: (n, k) float32, from -1 to 1; 0 where there are fewer.
    """

    rows: Ints
    cosines: Floats

    @property
    def mean_cosine(self) -> float | None:
        """Of all that there are."""
        there = self.cosines[self.rows >= 0]
        return round(float(there.mean()), 4) if len(there) else None

    @classmethod
    def read(cls, folder: Path) -> Neighbours:
        arrays = load_file(folder / FILE)
        return cls(arrays["rows"], arrays["cosines"])

    def write(self, folder: Path) -> None:
        save_file(
            {"rows": np.ascontiguousarray(self.rows), "cosines": np.ascontiguousarray(self.cosines)}, folder / FILE
        )


def neighbours(vectors: Floats, k: int, progress: Progress = silent, *, what: str = "rows") -> Neighbours:
    """The k rows closest to each row, itself excluded by its number.

    Costs ½n²·d multiplications: a pair's cosine is worked out once. Memory beside `vectors`: the distinct rows once
    more, and a tile.

    Args:
        vectors: (n, d), unit rows or zeros.
        k: at least 1.
        what: the rows are, for the progress.
    """
    distinct = _Distinct.among(vectors)
    found, cosines = _closest(vectors[distinct.first], k, progress, what)
    return _told_apart(distinct, found, cosines, k, len(vectors))


@dataclass(frozen=True)
class _Distinct:
    """Rows that are equal, as one; those of zeros are left out.

    Attributes:
        first: (D,) the first row of each, ascending.
        of: (n,) which of them each row is; -1: zeros.
        members: (n',) all other rows, sorted by which they are, then by number.
        starts: (D + 1,) where each one's members begin.
    """

    first: NDArray[np.int64]
    of: NDArray[np.int64]
    members: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def among(cls, vectors: Floats) -> _Distinct:
        of = np.full(len(vectors), -1)
        numbers: dict[bytes, int] = {}
        for row in np.flatnonzero(vectors.any(axis=1)).tolist():
            key = hashlib.blake2b((vectors[row] + 0.0).tobytes(), digest_size=16).digest()  # + 0.0: of -0.0 makes 0.0
            of[row] = numbers.setdefault(key, len(numbers))
        members = np.argsort(of, kind="stable")[np.count_nonzero(of < 0) :]
        starts = np.concatenate([[0], np.cumsum(np.bincount(of[of >= 0], minlength=len(numbers)))])
        return cls(members[starts[:-1]], of, members, starts)


def _closest(vectors: Floats, k: int, progress: Progress, what: str) -> tuple[Ints, Floats]:
    """(D, k) the k others closest to each of D distinct rows, by falling cosine, then by number; -1 and -inf beyond."""
    count = len(vectors)
    best = _Best(np.full((count, k), NOBODY, np.int32), np.full((count, k), -np.inf, np.float32))
    everything = torch.from_numpy(vectors).to("cuda" if torch.cuda.is_available() else "cpu")
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    with pinned_threads():  # the order of float sums depends on their number
        for number, these in enumerate(blocks):
            for others in blocks[number:]:
                cosines = everything[these] @ everything[others].T
                if these == others:
                    cosines.fill_diagonal_(-torch.inf)
                else:
                    best.take(others, these, cosines.T)
                best.take(these, others, cosines)
            progress(these.stop, count, what)
    return best.rows, best.cosines


@dataclass
class _Best:
    """The best so far of each row. Every row meets the others in ascending order, so of equal cosines the one that is
    there stays.

    Attributes:
        rows: (D, k)
        cosines: (D, k), falling.
    """

    rows: Ints
    cosines: Floats

    def take(self, these: slice, others: slice, cosines: Tensor) -> None:
        """Take in the cosines (these, others) of a tile."""
        rows, near = self.rows[these], self.cosines[these]  # views
        k = rows.shape[1]
        bound = torch.from_numpy(near[:, -1]).to(cosines.device)
        better = cosines > bound[:, None]
        if cosines.shape[1] > k and bool(torch.isinf(bound).any()):  # a row's first tile, most of which is better
            better &= cosines >= cosines.topk(k, dim=1).values[:, -1:]
        where = better.nonzero()
        if not len(where):
            return
        values = cosines[where[:, 0], where[:, 1]].cpu().numpy()
        of, column = where.cpu().numpy().T
        touched, group = np.unique(of, return_inverse=True)
        candidates = np.concatenate([rows[touched].ravel(), (column + others.start).astype(np.int32)])
        closeness = np.concatenate([near[touched].ravel(), values])
        owner = np.concatenate([np.repeat(np.arange(len(touched)), k), group])
        order = np.lexsort((candidates, -closeness, owner))
        begins = np.searchsorted(owner[order], np.arange(len(touched)))
        kept = order[begins[:, None] + np.arange(k)]
        rows[touched], near[touched] = candidates[kept], closeness[kept]


def _told_apart(distinct: _Distinct, found: Ints, cosines: Floats, k: int, count: int) -> Neighbours:
    """From the k closest distinct rows to the k closest rows: those that are equal to a row come first, then all that
    are equal to the first neighbour, and so on.
    """
    made = Neighbours(np.full((count, k), NOBODY, np.int32), np.zeros((count, k), np.float32))
    sizes = np.diff(distinct.starts)
    for start in range(0, count, BLOCK):
        rows = start + np.flatnonzero(distinct.of[start : start + BLOCK] >= 0)
        if not len(rows):
            continue
        own = distinct.of[rows]
        groups = np.concatenate([own[:, None], found[own]], axis=1)  # (r, k + 1)
        near = np.concatenate([np.ones((len(rows), 1), np.float32), np.clip(cosines[own], -1, 1)], axis=1)
        taken = np.where(groups >= 0, np.minimum(sizes[groups], k + 1), 0)  # k, and the row itself among them
        flat = taken.ravel()
        owner = np.repeat(np.arange(len(rows)), taken.sum(axis=1))
        begins = np.repeat(distinct.starts[groups.ravel()], flat)
        within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        candidates = distinct.members[begins + within]
        closeness = np.repeat(near.ravel(), flat)
        other = candidates != rows[owner]
        owner, candidates, closeness = owner[other], candidates[other], closeness[other]
        order = np.lexsort((candidates, -closeness, owner))
        owner, candidates, closeness = owner[order], candidates[order], closeness[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        use = place < k
        made.rows[rows[owner[use]], place[use]] = candidates[use]
        made.cosines[rows[owner[use]], place[use]] = closeness[use]
    return made
