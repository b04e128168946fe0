"""Checkpoints: tensors in safetensors files, which cannot carry code, replaced atomically.

`.checkpoint.safetensors` is what a killed training goes on from: weights, their average, Adam's moments and a JSON
state. It holds no random state, because every epoch's draws follow from the seed and the epoch's number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.core.workspace import write_json
from llmser_tasks.recommenders.devices import pick_device
from llmser_tasks.recommenders.load import DESCRIPTION, make_model, no_usable_model, read_description
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.parts import Part

WEIGHTS = "model.safetensors"
CHECKPOINT = ".checkpoint.safetensors"
FEATURE = "feature/"  # begins the names of what an item table was given, beside weights, whose names have no /
PARTS = "parts."  # begins the names of what terms have trained beside the model

STATE = "state.json"  # name of the tensor that holds the JSON state's bytes


def save_weights(folder: Path, model: Model) -> None:
    """Write the model's weights and what its item table was given, so that it needs nothing else to be loaded.

    A reader sees the former file or the whole new one.
    """
    features = {f"{FEATURE}{name}": values for name, values in model.item_table.features.items()}
    gone = tuple(f"{PARTS}{name}." for name, part in model.parts.items() if not cast(Part, part).kept)
    kept = {name: values for name, values in model.state_dict().items() if not name.startswith(gone)}
    _write(folder / WEIGHTS, kept | features)


def save_description(
    folder: Path,
    config: Recommender,
    items: int,
    facts: Mapping[str, Any],
    item_table: str = ITEM_TABLES.default,
    table_without: Sequence[str] = (),
    marks: bool = False,
    parts: Sequence[str] = (),
) -> None:
    """Write what `load` needs to rebuild the model, and facts about its training."""
    description = {"recommender": config.model_dump(mode="json"), "items": items, "item_table": item_table}
    left_out = {"item_table_without": list(table_without)} if table_without else {}
    marking = {"marks": True} if marks else {}
    having = {"parts": list(parts)} if parts else {}
    write_json(folder / DESCRIPTION, description | left_out | marking | having | dict(facts))


def describe(folder: Path, model: Model, facts: Mapping[str, Any]) -> None:
    """`save_description` of this very model."""
    table = model.item_table
    parts = [name for name, part in model.parts.items() if cast(Part, part).kept]
    about = (table.name, table.without, model.mark is not None, parts)
    save_description(folder, model.config, model.items, facts, *about)


def load(folder: Path, device: str | None = None) -> Model:
    """The finished model of a folder, ready to score, on `device` (default: CUDA where there is one).

    Raises:
        StorageError: the folder holds no model, or one that is damaged or of an earlier version.
    """
    described = read_description(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
        features = {name: values.numpy() for name, values in _part(tensors, FEATURE).items()}
        about = (described.item_table, features, described.table_without, described.marks, described.parts)
        model = make_model(described.recommender, described.items, *about)
        model.load_state_dict({name: values for name, values in tensors.items() if not name.startswith(FEATURE)})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError, InputError) as error:
        raise no_usable_model(folder, error) from error
    return model.to(pick_device(device)).eval()


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimiser: Adam,
    state: Mapping[str, Any],
) -> None:
    """Write everything that training needs to go on after the epoch that just ended."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for parameter, values in optimiser.state.items():
        tensors |= {f"optimiser.{parameter}.{name}": tensor for name, tensor in values.items()}
    tensors[STATE] = torch.from_numpy(np.frombuffer(json.dumps(state).encode(), np.uint8).copy())
    _write(folder / CHECKPOINT, tensors)


def restore_checkpoint(
    folder: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimiser: Adam,
    signature: str,
) -> dict[str, Any] | None:
    """Put a killed training's weights and moments back; returns its state, or None if nothing fits.

    Args:
        signature: must equal the state's own "signature", else the checkpoint belongs to another training.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except SafetensorError:
        return None  # damaged from outside, since it is never left half-written: train from the start
    state: dict[str, Any] = json.loads(tensors.pop(STATE).numpy().tobytes())
    if state["signature"] != signature:
        return None
    model.load_state_dict(_part(tensors, "model."))
    if average is not None:
        average.load_state_dict(_part(tensors, "average."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimiser.").items():
        parameter, moment = name.split(".")
        moments.setdefault(int(parameter), {})[moment] = tensor
    optimiser.restore(moments)
    return state


def remove_checkpoint(folder: Path) -> None:
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
