"""Warm start: a training that begins from an earlier model, whose catalogue may have been another one.

Every catalogue numbers its items anew; the ids that their source gave them tell which was which (`sequences.changes`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.items.table import Table
from llmser_tasks.recommenders.loop.checkpoints import PARTS, load
from llmser_tasks.recommenders.model import Model

ARCHITECTURE = ("backbone", "dimension", "layers", "heads", "max_length")
MARK = "mark"  # its name among a model's weights
ITEM_TABLE = "item_table."  # prefix to the names of its weights in a model


def begin_from(model: Model, folder: Path, old_rows: NDArray[np.int64] | None = None) -> None:
    """Give a fresh model the weights of an earlier one. Items that this one did not know keep the rows that they begin
    with (`Table.beginnings`: random ones, or what the earlier model's other weights make of their texts), made as long
    as a trained row is on average. Features stay the fresh model's own, and so does what terms train beside it.

    Short rows, as a fresh model has them, hardly compete with the trained ones. With a tenth of the items of 5,000
    Beauty users withheld from the earlier SASRec, validation NDCG@10 for targets among these items was .019 with short
    rows and .028 with long ones (means of four seeds); over all users it was .0406 and .0407.

    Args:
        old_rows: (I + 1,) the earlier number of each item, 0 for padding and for what is new
            (`sequences.changes.Changes.former_items`); None: the catalogue is the same.

    Raises:
        InputError: the earlier model has another architecture, or `old_rows` does not fit the two.
        StorageError: the folder holds no model.
    """
    old = load(folder, "cpu")
    _refuse_another_architecture(model, old, folder)
    if old_rows is None:
        old_rows = np.arange(old.items + 1)
    fits = old_rows.shape == (model.items + 1,) and old_rows[0] == 0 and np.issubdtype(old_rows.dtype, np.integer)
    if not fits or old_rows.min() < 0 or old_rows.max() > old.items:
        raise InputError(
            f"The model in {folder} knows items 1–{old.items} and this training 1–{model.items}; "
            "say which item was which."
        )
    weights = {name: values for name, values in old.state_dict().items() if not name.startswith(PARTS)}
    weights |= {name: values for name, values in model.state_dict().items() if name.startswith(PARTS)}
    per_item = _per_item(model)
    model.load_state_dict({name: values for name, values in weights.items() if name not in per_item}, strict=False)
    if model.mark is not None and old.mark is None:  # it begins at zero, as ever
        weights[MARK] = torch.zeros_like(model.mark)
    for name, fresh in model.item_table.beginnings().items():
        before = weights[f"{ITEM_TABLE}{name}"].to(fresh.device)
        rows = torch.from_numpy(old_rows).to(fresh.device)
        weights[f"{ITEM_TABLE}{name}"] = _carried(fresh, before, rows, old.items)
    model.load_state_dict(weights)


def _carried(table: Tensor, before: Tensor, rows: Tensor, old_items: int) -> Tensor:
    """`table`, fresh rows of the present ids, with those of items that have an earlier number replaced by their earlier
    row."""
    items = len(rows) - 1
    known, new = torch.nonzero(rows)[:, 0], torch.nonzero(rows[1:] == 0)[:, 0] + 1
    table[known] = before[rows[known]]
    if len(known) and len(new) and bool(table[new].any()):  # rows of zeros have no length to begin with
        table[new] *= table[known].norm(dim=1).mean() / table[new].norm(dim=1).mean()
    table[items + 1 :] = before[old_items + 1 :]  # a backbone's own tokens
    return table


def _called(table: Table) -> str:
    return " without ".join([table.name, *([", ".join(table.without)] if table.without else [])])


def _refuse_another_architecture(model: Model, old: Model, folder: Path) -> None:
    pairs = [(name, getattr(old.config, name), getattr(model.config, name)) for name in ARCHITECTURE]
    for name, theirs, ours in [*pairs, ("item table", _called(old.item_table), _called(model.item_table))]:
        if theirs != ours:
            raise InputError(
                f"The model in {folder} has {name} {theirs} and this training {ours}; "
                f"train with {name} {theirs}, or without a model to start from."
            )
    mine, theirs = _shapes(model), _shapes(old)
    for name in mine:
        if name != MARK and mine[name] != theirs[name]:
            raise InputError(
                f"The model in {folder} has weights {name} of another shape than this training, as features of "
                "another width make them; train with the earlier ones, or without a model to start from."
            )


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Of all weights but terms' own; of what has a row for every item, whose number may be another, of such a row."""
    per_item = _per_item(model)
    weights = {name: v for name, v in model.state_dict().items() if not name.startswith(PARTS)}
    return {name: tuple(v.shape[name in per_item :]) for name, v in weights.items()}


def _per_item(model: Model) -> set[str]:
    """Names, in the model's state, of weights that have a row for every item."""
    return {f"{ITEM_TABLE}{name}" for name in model.item_table.per_item()}
