"""What the environment decides: where things lie, and which datasets and presets there are."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmser_tasks.core import config
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Workspace

log = logging.getLogger(__name__)

PRESETS = Path(__file__).parents[1] / "presets"
ABOUT_PRESETS = (
    "released: the released LLMSeR code's protocol (max_length 200, bce with 1 negative, patience 20, seeds 42, 43 and"
    " 44, 100 uniform negatives beside full ranking), on the paper's model; released-llm-esr: the same of LLM-ESR,"
    " against the base."
)


def home() -> Path:
    """LLMSER_HOME, by default `.llmser` in the current folder: state, the embedded database and the artefacts.

    Raises:
        InputError: it is a URL, not a folder.
    """
    return folder("LLMSER_HOME", ".llmser")


def workspace() -> Workspace:
    """The artefact store: LLMSER_ARTEFACTS, by default `artefacts` below the home.

    Raises:
        InputError: it is a URL, not a folder.
    """
    return Workspace(artefacts(home()))


def artefacts(home: Path) -> Path:
    """The folder of the artefact store.

    Raises:
        InputError: LLMSER_ARTEFACTS is a URL, not a folder.
    """
    return folder("LLMSER_ARTEFACTS", home / "artefacts")


def folder(variable: str, default: Path | str) -> Path:
    """The folder that a variable of the environment names.

    Raises:
        InputError: it is a URL, not a folder.
    """
    given = os.environ.get(variable) or str(default)
    if scheme := re.match(r"([a-z][a-z0-9+.-]+):/", given, re.IGNORECASE):
        advice = (
            "give its path alone"
            if scheme[1].lower() == "file"
            else "buckets cannot be used yet, so give a folder that all workers see"
        )
        raise InputError(f"{variable} is a URL ({scheme[1]}:), where a folder is needed; {advice}.")
    return Path(given).absolute()


def inbox() -> str:
    """Where new interactions arrive, a folder per dataset: LLMSER_INBOX, a folder or an fsspec URL such as
    `s3://bucket/prefix`, by default `inbox` below the home.
    """
    return os.environ.get("LLMSER_INBOX") or str(home() / "inbox")


def dataset_folders() -> list[Path]:
    """Where dataset files are looked up: the user's own below the home, then those that ship."""
    return [home() / "datasets", Path(__file__).parents[1] / "datasets"]


def preset_names() -> list[str]:
    """The settings that ship under a name: `released`, the released LLMSeR code's protocol, and `released-llm-esr`."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def preset(name: str) -> dict[str, Any]:
    """The flat values of a preset: they override the dataset file's and yield to what a person passes.

    `released` leaves the core filter, T and the noun to the dataset's file, and takes over no defect: the model
    stays the paper's. An item's text is its title, whatever the file says.

    Raises:
        InputError: there is no such preset.
    """
    if name not in preset_names():
        raise InputError(f"There is no preset {name!r}; name one of {', '.join(preset_names())}, or none.")
    return config.load_dataset_defaults(name, [PRESETS])


def configuration(values: Mapping[str, Any]) -> RunConfig:
    """The full configuration: these flat values over the dataset file's over the defaults.

    Raises:
        InputError: a value cannot be used.
    """
    name = str(values.get("dataset") or RunConfig().dataset.name)
    return config.from_flat({**config.load_dataset_defaults(name, dataset_folders()), **values})
