"""Item tables, one file each: what an item is to a model. A file's `ITEM_TABLE` is a `Table` (`table.py`)."""

from __future__ import annotations

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.recommenders.features import Features, take
from llmser_tasks.recommenders.items.table import Table


def make_table(name: str, config: Recommender, items: int, extra_tokens: int, features: Features) -> Table:
    """A fresh item table for the items 1 … `items` and, after them, a backbone's own tokens.

    Raises:
        InputError: a feature that it needs was not given, or has another number of rows.
    """
    given = take(features, ITEM_TABLES[name].features, f"The item table {name}")
    for feature, values in given.items():
        if values.ndim < 1 or len(values) != items + 1:
            raise InputError(
                f"The item table {name} needs a row of the feature {feature} for padding and for each of {items} "
                f"items, but its shape is {tuple(values.shape)}."
            )
    table: Table = ITEM_TABLES.load(name).ITEM_TABLE(config, items, extra_tokens, given)
    table.name = name
    return table
