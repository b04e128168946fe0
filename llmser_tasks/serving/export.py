"""A trained model as a folder that needs nothing else: no run, no Postgres, no artefact store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.private import handed_out
from llmser_tasks.recommenders.finished import finish
from llmser_tasks.recommenders.load import DESCRIPTION
from llmser_tasks.recommenders.loop.checkpoints import WEIGHTS, load, save_weights
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.serving import artefact_name
from llmser_tasks.warehouse.tables.artefacts import StoredRun


def export_model(run: StoredRun, method: str, folder: Path) -> None:
    """Write model.safetensors and config.json; the folder appears when it is whole, and is never written over. Its item
    table is finished: whatever texts the model read, it takes none to load (`finished.finish`).

    config.json has what `recommenders.load` reads (`recommender`, `items`), and for whoever uses the model `item_ids`
    and `titles` in the order of its items 1 … I, where it comes from, and the version of the code that made it. It is
    plain ASCII, so that titles cannot hide anything from those who look at it.

    Raises:
        InputError: the folder is there, or the run has no such model.
        StorageError: the model has been deleted, or the folder cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already; name another folder with -o, or remove it.")
    name = artefact_name(run, method)
    source = run.folder(name)
    catalogue = Catalogue.read(run.folder("catalogue"))
    description = json.loads((source / DESCRIPTION).read_text(encoding="utf-8"))
    model = finish(load(source, "cpu"))
    about = {
        "method": method,
        "backbone": description["recommender"]["backbone"],
        **description,
        "item_table": model.item_table.name,
        "dataset": run.row.dataset,
        "synthetic": run.row.synthetic,
        "run_id": run.row.run_id,
        "version": run.workspace.manifest(run.artefact(name))["version"],
        "item_ids": catalogue.item_ids.to_pylist(),
        "titles": catalogue.titles.to_pylist(),
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with handed_out():
            temporary.mkdir(parents=True)
            save_weights(temporary, model)
            (temporary / DESCRIPTION).write_text(json.dumps(about, indent=1), "ascii")
            shutil.copymode(temporary / DESCRIPTION, temporary / WEIGHTS)  # which safetensors makes for its user alone
        temporary.rename(folder)
    except OSError as error:
        raise StorageError(f"Cannot write {folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
