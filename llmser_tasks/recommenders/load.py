"""A backbone's model, made anew or found in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.recommenders.model import Model

DESCRIPTION = "config.json"  # of a finished model's folder


def make_model(config: Recommender, items: int) -> Model:
    """A fresh model of the configured backbone for the items 1 … `items`; torch's global seed decides its weights."""
    model: Model = BACKBONES.load(config.backbone).BACKBONE(config, items)
    return model


def module_in(folder: Path) -> str:
    """The module of the backbone of a finished model, which a step that loads it has to name.

    Raises:
        StorageError: the folder holds no model.
    """
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return BACKBONES.module_of(Recommender.model_validate(described["recommender"]).backbone)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{folder} holds no usable model ({type(error).__name__}); delete the folder and rerun the training."
        ) from error
