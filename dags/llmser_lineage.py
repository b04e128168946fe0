"""From dumps to tables, as Airflow's assets show it.

An asset is one kind of thing for all datasets; each of its events names, in `extra`, the dataset, the run and the place
in the artefact store. Tables of the warehouse are known by its address, without user and password; without
LLMSER_DATABASE_URL, which says where the warehouse is, they are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Asset, Context

SCHEMA = "llmser"
GROUP = "llmser"


def artefact(name: str) -> Asset:
    """The asset that a step makes."""
    return Asset(name=f"{GROUP}_{name}", uri=f"x-llmser://artefacts/{name}", group=GROUP)


DUMPS = Asset(name="llmser_dumps", uri="x-llmser://dumps", group=GROUP)
INTERACTIONS = artefact("interactions")
HISTORIES = artefact("histories")
EVALUATION = artefact("evaluation")
MADE = {  # asset → the reference to it in what its task returns, if that has another name
    INTERACTIONS.name: "ingest",
    HISTORIES.name: "training",
}


def tables(*names: str) -> list[Asset]:
    """Tables of the warehouse."""
    parts = urlsplit(os.environ.get("LLMSER_DATABASE_URL", ""))
    if not parts.hostname:
        return []
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"postgres://{host}:{parts.port or 5432}/{parts.path.strip('/')}/{SCHEMA}"
    # The address is the name, too: under a name of its own a table that moved would collide with where it was, and
    # Airflow fails tasks whose assets collide.
    return [Asset(uri=f"{place}/{name}", group=GROUP) for name in names]


def note(context: Context, outlets: Iterable[Any], dataset: str, made: Any) -> None:
    """Say in the events of a task's outlets what they are about.

    Args:
        made: what the task returns: references to artefacts.
    """
    references: Mapping[str, Any] = made if isinstance(made, Mapping) else {}
    for asset in outlets:
        extra = context["outlet_events"][asset].extra
        extra |= {"dataset": dataset, "run_id": context["run_id"]}
        if reference := references.get(MADE.get(asset.name, asset.name.removeprefix(f"{GROUP}_"))):
            extra["artefact"] = reference
