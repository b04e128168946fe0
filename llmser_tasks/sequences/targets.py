"""Held-out targets: whom to predict for, what came between training history and target, and the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmser_tasks.sequences.histories import Histories, Ints


@dataclass(frozen=True)
class Targets:
    """One row per evaluated user.

    Attributes:
        users: (R,) user ids, ascending.
        contexts: R rows: items between the training history and the target, oldest first; may be empty.
        items: (R,) the target.
    """

    users: Ints
    contexts: Histories
    items: Ints

    def __len__(self) -> int:
        return len(self.users)

    def inputs(self, training: Histories) -> Histories:
        """What a model may see to predict these targets: the training history, then the context; R rows."""
        return training.select(training.rows_of(self.users)).then(self.contexts)


def write_targets(path: Path, targets: Targets) -> None:
    """Columns user:int32, context:list<int32>, item:int32, sorted by user."""
    table = targets.contexts.to_arrow({"item": pa.array(targets.items, pa.int32())})
    pq.write_table(table.rename_columns(["user", "context", "item"]), path)


def read_targets(path: Path) -> Targets:
    table = pq.read_table(path).combine_chunks()
    contexts = Histories.from_arrow(table.select(["user", "context"]).rename_columns(["user", "items"]))
    return Targets(contexts.users, contexts, table["item"].to_numpy().astype(np.int32, copy=False))
