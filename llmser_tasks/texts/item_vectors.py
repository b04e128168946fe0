"""The vectors of all items' texts, by the encoder that also scores: title neighbours are found by them, and models may
start from them. They depend on the catalogue alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import EMBEDDINGS
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.texts.encoder import Encoder, embed_cached, locate, weights_digest
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = Step(title="Embed titles", place=1)

STEP = "item-vectors"


def left_out(config: RunConfig) -> str | None:
    del config
    return None


def prepare(run: Run) -> None:
    """
    Raises:
        InputError: the encoder is not there.
    """
    locate(run.config.reliability.encoder)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Embed the text of every item (its title, where nothing else is known of it); those that somebody has embedded
    into the store before are looked up."""
    name = run.config.reliability.encoder
    encoder_hash = weights_digest(name)  # without loading it: most runs find the vectors

    def write(folder: Path) -> dict[str, Any]:
        known, encoder = Catalogue.of_run(run, refs), Encoder.open(name)
        texts = [text or "" for text in known.texts.to_pylist()]
        embedded = embed_cached(encoder, texts, run.workspace.root / EMBEDDINGS, progress)
        vectors = np.concatenate([np.zeros((1, encoder.dimension), np.float32), embedded])
        made = ItemVectors(vectors, known.described)
        made.write(folder)
        return {
            "items": len(texts),
            "titled": int(made.titled.sum()),
            "dimension": encoder.dimension,
            "encoder_hash": encoder.hash,
        }

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"catalogue": artefact(refs, "catalogue")},
        config={"encoder": encoder_hash},
    )


def features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """(I + 1, d) `item_vectors`, unit rows; zeros for padding and for items without a title."""
    return {"item_vectors": ItemVectors.read(folder).vectors}
