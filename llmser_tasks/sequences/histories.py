"""Histories: many users' item sequences in two flat arrays, the form in which every step reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.run import Refs, Run

Ints = NDArray[np.int32]

MARK = 1 << 30  # in an item's id: what stands there was made up, and a model that has learned a mark can tell

SCHEMA = pa.schema([("user", pa.int32()), ("items", pa.list_(pa.int32()))])


@dataclass(frozen=True)
class Histories:
    """Sequences of users, oldest item first unless reversed.

    Attributes:
        users: (U,) user ids, ascending. A row number is never a user id.
        offsets: (U + 1,) int64; user `users[i]` owns `items[offsets[i]:offsets[i + 1]]`.
        items: (Σ n_u,) item ids ≥ 1; 0 is kept for padding. Those of `marked` sequences have MARK added.
    """

    users: Ints
    offsets: NDArray[np.int64]
    items: Ints

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, row: int) -> Ints:
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Ints]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    @classmethod
    def of(cls, users: Sequence[int] | Ints, sequences: Sequence[Sequence[int] | Ints]) -> Histories:
        """From Python sequences; rows are put into the users' order."""
        order = np.argsort(np.asarray(users, dtype=np.int32), kind="stable")
        rows = [np.asarray(sequences[i], dtype=np.int32) for i in order]
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        items = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        return cls(np.asarray(users, dtype=np.int32)[order], np.concatenate([[0], np.cumsum(lengths)]), items)

    @classmethod
    def of_run(cls, run: Run, refs: Refs) -> Histories:
        """S_u of a run's training users."""
        return cls.read(run.folder(refs, "training") / "histories.parquet")

    @classmethod
    def read(cls, path: Path) -> Histories:
        """Read a Parquet file with columns user:int32, items:list<int32>, sorted by user."""
        table = pq.read_table(path, columns=["user", "items"]).combine_chunks()
        return cls.from_arrow(table)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Histories:
        if not table.num_rows:
            return cls.of([], [])
        users = table["user"].to_numpy().astype(np.int32, copy=False)
        assert (np.diff(users) > 0).all(), "users must be ascending and unique"
        lists = table["items"].combine_chunks()
        lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
        offsets = lists.offsets.to_numpy().astype(np.int64)
        items = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.int32)
        return cls(users, offsets - offsets[0], items)

    def to_arrow(self, extra: Mapping[str, Any] | None = None) -> pa.Table:
        lists = pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), pa.array(self.items, pa.int32()))
        columns = {"user": pa.array(self.users, pa.int32()), "items": lists} | dict(extra or {})
        return pa.table(columns)

    def write(self, path: Path) -> None:
        pq.write_table(self.to_arrow(), path)

    def rows_of(self, users: Ints) -> NDArray[np.int64]:
        """Row of each user; -1 where a user has none."""
        rows = np.searchsorted(self.users, users)
        rows = np.minimum(rows, max(len(self) - 1, 0))
        found = self.users[rows] == users if len(self) else np.zeros(len(users), bool)
        return np.where(found, rows, -1)

    def found_in(self, other: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows, ascending, that the same user has in `other` with the same items, and their rows there."""
        row = np.arange(len(self))
        there = other.rows_of(self.users)
        row = row[there >= 0]
        row = row[self.lengths[row] == other.lengths[there[row]]]
        one, another = self.select(row), other.select(there[row])
        differ = np.zeros(len(row), bool)
        differ[np.repeat(np.arange(len(row)), one.lengths)[one.items != another.items]] = True
        return row[~differ], there[row[~differ]]

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Histories:
        """A subset of rows (mask or ascending row numbers)."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Histories(self.users[rows], offsets, self.items[ranges(self.offsets[rows], lengths)])

    def reverse(self) -> Histories:
        """Every sequence back to front (S_u^rev)."""
        ends = np.repeat(self.offsets[1:] + self.offsets[:-1] - 1, self.lengths)
        return Histories(self.users, self.offsets, self.items[ends - np.arange(len(self.items))])

    def drop_last(self) -> Histories:
        """Every non-empty sequence without its last item (the masked S_u)."""
        keep = np.ones(len(self.items), dtype=bool)
        keep[self.offsets[1:][self.lengths > 0] - 1] = False
        lengths = np.maximum(self.lengths - 1, 0)
        return Histories(self.users, np.concatenate([[0], np.cumsum(lengths)]), self.items[keep])

    def marked(self) -> Histories:
        """The same items, marked as made up: a recommender that is trained on marked items learns a vector that it adds
        to theirs. Only what a model is shown may be marked, never what it is asked for or must not recommend.
        """
        return Histories(self.users, self.offsets, self.items | np.int32(MARK))

    def unmarked(self) -> Histories:
        """The same items without marks."""
        return Histories(self.users, self.offsets, self.items & np.int32(MARK - 1)) if self.any_marked else self

    @property
    def any_marked(self) -> bool:
        return bool(len(self.items) and self.items.max() >= MARK)

    def last(self) -> Ints:
        """(U,) last item of every sequence, 0 where it is empty."""
        last = np.zeros(len(self), np.int32)
        filled = self.lengths > 0
        last[filled] = self.items[self.offsets[1:][filled] - 1]
        return last

    def counts(self, items: int) -> NDArray[np.int64]:
        """(I + 1,) how often each item is in them; entry 0 is padding."""
        return np.bincount(self.items, minlength=items + 1)

    def hold(self, items: Ints) -> NDArray[np.bool_]:
        """(U,) whether each sequence holds its own one of `items` (U,)."""
        row = np.repeat(np.arange(len(self)), self.lengths)
        found = np.zeros(len(self), bool)
        found[row[self.items == items[row]]] = True
        return found

    def then(self, later: Histories) -> Histories:
        """Append `later`'s sequence to each of these users (users it does not know stay as they are)."""
        rows = later.rows_of(self.users)
        extra = np.where(rows >= 0, later.lengths[rows] if len(later) else 0, 0)
        lengths = self.lengths + extra
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        items = np.empty(offsets[-1], np.int32)
        _scatter(items, offsets[:-1], self)
        known = rows >= 0
        if known.any():
            picked = later.items[ranges(later.offsets[rows[known]], extra[known])]
            items[ranges((offsets[:-1] + self.lengths)[known], extra[known])] = picked
        return Histories(self.users, offsets, items)

    def content(self) -> str:
        """Digest of whose sequences these are, and of what."""
        digest = hashlib.sha256()
        for part in (self.users, self.offsets, self.items):
            digest.update(str(part.dtype).encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def after(self, earlier: Histories) -> Histories:
        """Prepend `earlier`'s sequence to each of these users (S̃_u = pseudo-prior items, then S_u)."""
        rows = earlier.rows_of(self.users)
        empty = Histories(self.users, np.zeros(len(self) + 1, np.int64), np.zeros(0, np.int32))
        prefix = empty.then(earlier) if (rows >= 0).any() else empty
        return prefix.then(self)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenated ranges [start, start + length)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def _scatter(target: Ints, starts: NDArray[np.int64], histories: Histories) -> None:
    target[ranges(starts, histories.lengths)] = histories.items
