"""Titles, texts and original ids of items and users, looked up many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.run import Refs, Run

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue artefact in memory. Item ids are 1 … I, user ids 0 … U-1; both count rows of these columns.

    Attributes:
        item_ids: (I,) original ids.
        titles: (I,) clean titles, null where an item has none.
        user_ids: (U,) original ids.
        told: (I,) what describes each item, where for some it is more than the title; None: it is the titles.
    """

    item_ids: pa.Array
    titles: pa.Array
    user_ids: pa.Array
    told: pa.Array | None = None

    @classmethod
    def of_run(cls, run: Run, refs: Refs) -> Catalogue:
        return cls.read(run.folder(refs, "catalogue"))

    @classmethod
    def read(cls, folder: Path) -> Catalogue:
        items = pq.read_table(folder / "items.parquet").combine_chunks()
        told = _flat(items["text"]) if "text" in items.column_names else None
        users = pq.read_table(folder / "users.parquet", columns=["user_id"]).combine_chunks()
        return cls(_flat(items["item_id"]), _flat(items["title"]), _flat(users["user_id"]), told)

    @property
    def texts(self) -> pa.Array:
        """(I,) what describes each item, as the dataset's `item_text` says; null where nothing does. People read
        titles; texts are for those who judge by meaning: an encoder, an LLM.
        """
        return self.titles if self.told is None else self.told

    @cached_property
    def titled(self) -> NDArray[np.bool_]:
        """(I + 1,) which items have a title; padding has none."""
        return _valid(self.titles)

    @cached_property
    def described(self) -> NDArray[np.bool_]:
        """(I + 1,) which items have a text; padding has none."""
        return _valid(self.texts)

    def titles_of(self, items: Ints | Sequence[int]) -> list[str | None]:
        return _take(self.titles, np.asarray(items, np.int64) - 1)

    def texts_of(self, items: Ints | Sequence[int]) -> list[str | None]:
        return _take(self.texts, np.asarray(items, np.int64) - 1)

    def item_ids_of(self, items: Ints | Sequence[int]) -> list[str]:
        return _take(self.item_ids, np.asarray(items, np.int64) - 1)

    def user_ids_of(self, users: Ints | Sequence[int]) -> list[str]:
        return _take(self.user_ids, np.asarray(users, np.int64))

    def items_of(self, item_ids: Sequence[str]) -> Ints:
        """Item ids 1 … I of original ids; 0 for one that is not in the catalogue."""
        return _places(item_ids, self.item_ids) + 1

    def users_of(self, user_ids: Sequence[str]) -> Ints:
        """User ids of original ids; -1 for one that is not in the catalogue."""
        return _places(user_ids, self.user_ids)


def _valid(column: pa.Array) -> NDArray[np.bool_]:
    return np.concatenate([[False], np.asarray(column.is_valid())])


def _flat(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    return pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat


def _take(values: pa.Array, rows: NDArray[np.int64]) -> list[Any]:
    """Values at these rows; None for padding."""
    taken: list[Any] = values.take(pa.array(rows, mask=rows < 0)).to_pylist()
    return taken


def _places(wanted: Sequence[str], known: pa.Array) -> Ints:
    places = pc.index_in(pa.array(wanted, known.type), value_set=known)
    rows: Ints = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return rows


def catalogue_size(run: Run, refs: Refs) -> int:
    """I: item ids are 1 … I."""
    return int(pq.read_metadata(run.folder(refs, "catalogue") / "items.parquet").num_rows)
