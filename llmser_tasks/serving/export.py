"""A trained model as a folder that needs nothing else: no run, no Postgres, no artefact store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.kinds import ADDITIONS
from llmser_tasks.core.private import handed_out
from llmser_tasks.core.workspace import MANIFEST
from llmser_tasks.methods import adding
from llmser_tasks.recommenders.added import Added
from llmser_tasks.recommenders.finished import finish
from llmser_tasks.recommenders.load import DESCRIPTION, no_usable_model
from llmser_tasks.recommenders.loop.checkpoints import WEIGHTS, load, save_weights
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.serving import served
from llmser_tasks.warehouse.tables.artefacts import StoredRun

ADDITION = "addition"  # in config.json, where there is one


def export_model(run: StoredRun, method: str, folder: Path) -> None:
    """Write model.safetensors and config.json; the folder appears when it is whole, and is never written over. Its item
    table is finished: whatever texts the model read, it takes none to load (`finished.finish`).

    config.json has what `recommenders.load` reads (`recommender`, `items`), and for whoever uses the model `item_ids`
    and `titles` in the order of its items 1 … I, where it comes from, and the version of the code that made it. It is
    plain ASCII, so that titles cannot hide anything from those who look at it. What is added to the model's scores, if
    anything is, stands in a folder of that name, and config.json calls it `addition` (see `added`).

    Raises:
        InputError: the folder is there, or the run has no such model.
        StorageError: the model has been deleted, or the folder cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already; name another folder with -o, or remove it.")
    names = served(run, method)
    source, fitted = run.folder(names.model), run.folder(names.fitted) if names.fitted else None
    catalogue = Catalogue.read(run.folder("catalogue"))
    description = json.loads((source / DESCRIPTION).read_text(encoding="utf-8"))
    model = finish(load(source, "cpu"))
    about = {
        "method": method,
        "backbone": description["recommender"]["backbone"],
        **description,
        "item_table": model.item_table.name,
        "item_table_without": list(model.item_table.without),
        "dataset": run.row.dataset,
        "synthetic": run.row.synthetic,
        "run_id": run.row.run_id,
        "version": run.workspace.manifest(run.artefact(names.model))["version"],
        **({ADDITION: names.addition} if fitted else {}),
        "item_ids": catalogue.item_ids.to_pylist(),
        "titles": catalogue.titles.to_pylist(),
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with handed_out():
            temporary.mkdir(parents=True)
            save_weights(temporary, model)
            if fitted:
                (temporary / names.addition).mkdir()
                for file in (file for file in fitted.iterdir() if file.name != MANIFEST):
                    shutil.copyfile(file, temporary / names.addition / file.name)  # without the mode of the store's
            (temporary / DESCRIPTION).write_text(json.dumps(about, indent=1), "ascii")
            shutil.copymode(temporary / DESCRIPTION, temporary / WEIGHTS)  # which safetensors makes for its user alone
        temporary.rename(folder)
    except OSError as error:
        raise StorageError(f"Cannot write {folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def added(folder: Path, owned: Histories, device: torch.device) -> Added | None:
    """What an exported model's folder adds to its scores for users who own these items: the last argument of
    `recommenders.top_k`. None: nothing.

    Raises:
        StorageError: this version does not have it, or its folder is damaged.
    """
    try:
        name = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get(ADDITION)
    except (OSError, ValueError, AttributeError) as error:
        raise no_usable_model(folder, error) from error
    if name is None:
        return None
    if not isinstance(name, str) or name not in ADDITIONS:
        raise StorageError(
            f"{folder} adds {str(name)!r} to its model's scores, which this version of LLMSeR does not have; load it "
            "with the version that made it."
        )
    return adding.added(name, folder / name, owned, device)
