"""What the environment decides: where things lie and which database is used."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmser_tasks.core import config
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.workspace import Workspace

log = logging.getLogger(__name__)

PRESETS = Path(__file__).parents[1] / "presets"


def home() -> Path:
    """LLMSER_HOME, by default `.llmser` in the current folder: state, the embedded database and the artefacts.

    Raises:
        InputError: it is no folder but a URL.
    """
    return folder("LLMSER_HOME", ".llmser")


def workspace() -> Workspace:
    """The artefact store: LLMSER_ARTEFACTS, by default `artefacts` below the home.

    Raises:
        InputError: it is no folder but a URL.
    """
    return Workspace(artefacts(home()))


def artefacts(home: Path) -> Path:
    """The folder of the artefact store.

    Raises:
        InputError: LLMSER_ARTEFACTS is no folder but a URL.
    """
    return folder("LLMSER_ARTEFACTS", home / "artefacts")


def folder(variable: str, default: Path | str) -> Path:
    """The folder that a variable of the environment names.

    Raises:
        InputError: it is no folder but a URL.
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


def claimed(store: Workspace) -> Workspace:
    """The store with who makes what claimed in the warehouse, where one is at hand without starting it.

    Without one nothing is mixed either: two who make the same on two machines do so side by side.
    """
    from llmser_tasks.warehouse.migrations import migrate
    from llmser_tasks.warehouse.tables.claims import Claims

    try:
        url = database_url()
        migrate(url)
    except StorageError as error:
        log.debug("Nothing is claimed: %s", error)
        return store
    return replace(store, claims=Claims(url))


def inbox() -> str:
    """Where new interactions arrive, a folder per dataset: LLMSER_INBOX, a folder or an fsspec URL such as
    `s3://bucket/prefix`, by default `inbox` below the home.
    """
    return os.environ.get("LLMSER_INBOX") or str(home() / "inbox")


def dataset_folders() -> list[Path]:
    """Where dataset files are looked up: the user's own below the home, then those that ship."""
    return [home() / "datasets", Path(__file__).parents[1] / "datasets"]


def preset_names() -> list[str]:
    """The settings that ship under a name: `released`, the released LLMSeR code's protocol."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def preset(name: str) -> dict[str, Any]:
    """The flat values of a preset: they stand over the dataset file's and beneath what a person passes.

    `released` leaves the core filter, T and the noun to the dataset's file, and takes no defect along: the model stays
    the paper's.
    """
    return config.load_dataset_defaults(name, [PRESETS])


def configuration(values: Mapping[str, Any]) -> RunConfig:
    """The full configuration: these flat values over the dataset file's over the defaults.

    Raises:
        InputError: a value cannot be used.
    """
    name = str(values.get("dataset") or RunConfig().dataset.name)
    return config.from_flat({**config.load_dataset_defaults(name, dataset_folders()), **values})


def database_url() -> str:
    """URL of the warehouse: LLMSER_DATABASE_URL, or that of the embedded server if it runs.

    Raises:
        StorageError: there is neither.
    """
    from llmser_tasks.postgres import embedded

    if url := os.environ.get("LLMSER_DATABASE_URL"):
        return url
    server = embedded.running(home())
    if server is None:
        raise StorageError(f"No Postgres runs below {home()}; start it with `llmser up`, or set LLMSER_DATABASE_URL.")
    return server.url


@contextmanager
def database() -> Iterator[str]:
    """URL of the warehouse, migrated; the embedded server is started for the length of the block if need be."""
    from llmser_tasks.postgres import embedded
    from llmser_tasks.warehouse.migrations import migrate

    if url := os.environ.get("LLMSER_DATABASE_URL"):
        migrate(url)
        yield url
        return
    with embedded.on_demand(home()) as server:
        migrate(server.url)
        yield server.url


@contextmanager
def kept_database() -> Iterator[str]:
    """The same, for what only looks at or changes what is there: none is made.

    Raises:
        InputError: nothing has ever run here.
    """
    from llmser_tasks.postgres import embedded

    if not os.environ.get("LLMSER_DATABASE_URL") and not embedded.exists(home()):
        raise InputError(
            f"There is no warehouse below {home()}: nothing has run here. Go to the folder in which you work, or set "
            "LLMSER_HOME or LLMSER_DATABASE_URL."
        )
    with database() as url:
        yield url
