"""Item tables, one file each: what an item is to a model. A file's `ITEM_TABLE` is a `Table` (`table.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.recommenders.features import Features, take
from llmser_tasks.recommenders.items.table import Table


def make_table(
    name: str, config: Recommender, items: int, extra_tokens: int, features: Features, without: Sequence[str] = ()
) -> Table:
    """A fresh item table for the items 1 … `items` and, after them, a backbone's own tokens.

    Args:
        without: parts that are left out of it.

    Raises:
        InputError: a feature that it needs was not given, or has another number of rows; or it has no such part.
    """
    given = take(features, ITEM_TABLES[name].features, f"The item table {name}")
    for feature, values in given.items():
        if values.ndim < 1 or len(values) != items + 1:
            raise InputError(
                f"The item table {name} needs a row of the feature {feature} for padding and for each of {items} "
                f"items, but its shape is {tuple(values.shape)}."
            )
    kind: type[Table] = ITEM_TABLES.load(name).ITEM_TABLE
    if unknown := sorted(set(without) - set(kind.parts)):
        raise InputError(
            f"The item table {name} was to be made without {unknown[0]}, but has no such part; "
            f"its parts are: {', '.join(kind.parts) or 'none'}."
        )
    table = kind(config, items, extra_tokens, given, without)
    table.name = name
    return table
