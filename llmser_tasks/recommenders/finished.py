"""A trained model that nobody will train further: what its item table makes of every item is all that is left of it."""

from __future__ import annotations

import torch

from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.recommenders.items import make_table
from llmser_tasks.recommenders.model import Model


@torch.no_grad()
def finish(model: Model) -> Model:
    """Give a model the usual item table with its finished rows, so that it takes no features to load; it scores as
    before. A table with its own way to be read (`Table.states`) finishes itself.
    """
    table = model.item_table
    if not table.read_plainly:
        model.item_table = table.finished()
    elif table.name != ITEM_TABLES.default:
        plain = make_table(ITEM_TABLES.default, model.config, model.items, model.extra_tokens, {}).to(table.device)
        (rows,) = plain.per_item().values()
        rows.copy_(table.all())
        model.item_table = plain
    return model
