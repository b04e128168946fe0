"""A backbone's model, made anew or described in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.kinds import BACKBONES, ITEM_TABLES, LOSSES, TERMS
from llmser_tasks.recommenders.features import Features
from llmser_tasks.recommenders.items import make_table
from llmser_tasks.recommenders.items.table import Table
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.parts import make_parts

DESCRIPTION = "config.json"  # in a finished model's folder


@dataclass(frozen=True)
class Description:
    """Everything that rebuilds a model, except its weights.

    Attributes:
        items: I.
        item_table: its name among `ITEM_TABLES`.
        table_without: parts that are left out of it.
        marks: it tells marked items from others.
        parts: the terms whose parts have stayed with it.
    """

    recommender: Recommender
    items: int
    item_table: str
    table_without: tuple[str, ...] = ()
    marks: bool = False
    parts: tuple[str, ...] = ()


def make_model(
    config: Recommender,
    items: int,
    item_table: str = ITEM_TABLES.default,
    features: Features | None = None,
    table_without: Sequence[str] = (),
    marks: bool = False,
    parts: Sequence[str] = (),
) -> Model:
    """A fresh model of the configured backbone for the items 1 … `items`; torch's global seed decides its weights.

    Args:
        features: what the item table is made from; others are passed over.
        table_without: parts that are left out of the item table.
        marks: it shall tell marked items from others.
        parts: terms whose parts have stayed with a finished model; a training adds its own (`parts.make_parts`).

    Raises:
        InputError: the item table needs a feature that was not given, or one of another size; or it has no such part.
    """
    backbone: type[Model] = BACKBONES.load(config.backbone).BACKBONE
    table = make_table(item_table, config, items, backbone.extra_tokens, features or {}, table_without)
    model = backbone(config, table)
    for _ in range(table.more_encoders):
        another = backbone(config, _Nothing(config, items, backbone.extra_tokens))
        del another.item_table
        table.encoders.append(another)
    if marks:
        model.take_marks()
    model.parts.update(make_parts(parts, table.width))
    return model


class _Nothing(Table):
    """In the place of an item table, for an encoder alone: whoever has it gives it what it reads."""

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError


def read_description(folder: Path) -> Description:
    """
    Raises:
        StorageError: the folder holds no model, or one of an earlier version.
    """
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        config, items = Recommender.model_validate(said["recommender"]), int(said["items"])
        table, without = said.get("item_table"), tuple(map(str, said.get("item_table_without", ())))
        marks, parts = bool(said.get("marks", False)), tuple(map(str, said.get("parts", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise no_usable_model(folder, error) from error
    if table is None:
        raise StorageError(
            f"{folder} holds a model of an earlier version of LLMSeR, which this one cannot read; "
            "train it anew, or load it with the version that made it."
        )
    if not isinstance(table, str) or table not in ITEM_TABLES:
        raise StorageError(
            f"{folder} holds a model with the item table {str(table)!r}, which this version of LLMSeR does not have; "
            "load it with the version that made it."
        )
    if unknown := [part for part in parts if part not in TERMS]:
        raise StorageError(
            f"{folder} holds a model with a part of the term {unknown[0]!r}, which this version of LLMSeR does not "
            "have; load it with the version that made it."
        )
    return Description(config, items, table, without, marks, parts)


def no_usable_model(folder: Path, error: Exception) -> StorageError:
    return StorageError(
        f"{folder} holds no usable model ({type(error).__name__}); delete the folder and rerun the training, "
        "or load an exported model with the version of LLMSeR that its config.json names."
    )


def modules_in(folder: Path) -> list[str]:
    """The modules that a finished model is made of; a step that loads it has to name them.

    Raises:
        StorageError: the folder holds no model.
    """
    described = read_description(folder)
    made_of = [BACKBONES.module_of(described.recommender.backbone), ITEM_TABLES.module_of(described.item_table)]
    return made_of + [TERMS.module_of(part) for part in described.parts]


def modules_of(
    config: Recommender, terms: Iterable[str] = (TERMS.default,), item_table: str = ITEM_TABLES.default
) -> list[str]:
    """The modules that a training chooses by name; its step has to name them."""
    chosen = [BACKBONES.module_of(config.backbone), LOSSES.module_of(config.loss), ITEM_TABLES.module_of(item_table)]
    return chosen + [TERMS.module_of(term) for term in dict.fromkeys(terms)]
