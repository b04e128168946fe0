"""The vectors of all items' texts: title neighbours are found by them, and models may start from them. They depend on
the catalogue alone, and on what embeds them (setting `vectors`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.llm.estimate import Estimate
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.texts import embedding
from llmser_tasks.texts.vectors import ItemVectors, Vectors

DECLARED = Step(title="Embed titles", place=1)

STEP = "item-vectors"


def prepare(run: Run) -> None:
    """
    Raises:
        InputError: what embeds is not there.
    """
    embedding.embedder(run, STEP).prepare()


def estimate(run: Run, refs: Refs) -> Estimate | None:
    """What an endpoint will take for it; None where none is asked."""
    return embedding.embedder(run, STEP).estimate(_texts(run, refs))


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Embed the text of every item; those that somebody has embedded before are looked up."""
    embedder = embedding.embedder(run, STEP)

    def write(folder: Path) -> dict[str, Any]:
        texts = _texts(run, refs)
        embedded = embedder.embed(texts, progress)
        dimension = embedded.vectors.shape[1]
        vectors = np.concatenate([np.zeros((1, dimension), np.float32), embedded.vectors])
        made = ItemVectors(vectors, vectors.any(axis=1) & np.array([False, *map(bool, texts)]))
        made.write(folder)
        return {"items": len(texts), "titled": int(made.titled.sum())} | embedded.about

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"catalogue": artefact(refs, "catalogue")},
        config={"encoder": embedder.digest},
    )


def _texts(run: Run, refs: Refs) -> list[str]:
    """What describes each item; "" where nothing does."""
    return [text or "" for text in Catalogue.of_run(run, refs).texts.to_pylist()]


def features(folder: Path) -> dict[str, Vectors]:
    """`item_vectors`: (I + 1, d) float32, unit rows; zeros for padding and for items without a text."""
    return {"item_vectors": ItemVectors.read(folder).vectors}
