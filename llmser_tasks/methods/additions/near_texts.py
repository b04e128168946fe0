"""Every text's short list of the items whose texts are nearest to it, and how near they are.

Most items are about equally far from any text: their cosines say little, and all of them would have to be computed for
every user. So only the K nearest texts count, by how much nearer they are than the last of these. The lists depend on
the items' vectors alone, whatever model they are added to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.similarity import Titles
from llmser_tasks.sequences.histories import ranges
from llmser_tasks.texts.neighbours import neighbours
from llmser_tasks.texts.vectors import ItemVectors

DECLARED = Step(title="Find near texts", place=2, needs=("item-vectors",))

STEP = "near-texts"
NEAREST = 100  # texts that a text knows: with half or twice as many the score ranks as well (benchmarks/content.py)
LISTED = 200  # most items on a list, where many share a text
TEXTS_AT_ONCE = 4096

FILE = "near_texts.safetensors"

Lists = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class NearTexts:
    """
    Attributes:
        of: (I + 1,) number of each item's text; -1: it has none.
        starts: (T + 1,) where the list of each text begins and ends in the next two.
        ids: (N,) the items near it, those with the same text among them, ascending within a list.
        nearness: (N,) float32, above 0.
    """

    of: NDArray[np.int32]
    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    nearness: NDArray[np.float32]

    @classmethod
    def among(cls, items: ItemVectors, progress: Progress = silent) -> NearTexts:
        """Nearness is the cosine of two texts less that of a text and the K-th nearest other, or
        the farthest where there are fewer.
        """
        texts = Titles.distinct(items)
        found = neighbours(texts.vectors, NEAREST, progress, what="texts")
        count = (found.rows >= 0).sum(axis=1)
        floor = np.where(count > 0, found.cosines[np.arange(len(count)), np.maximum(count, 1) - 1], 0)
        nearness = np.where(found.rows >= 0, found.cosines - floor[:, None], 0).astype(np.float32)
        of_itself = (1 - floor).astype(np.float32)[:, None]
        every, values = np.arange(len(count), dtype=np.int32)[:, None], np.hstack([of_itself, nearness])
        return cls(texts.of.astype(np.int32), *_lists(texts.of, np.hstack([every, found.rows]), values))

    @classmethod
    def read(cls, folder: Path) -> NearTexts:
        """
        Raises:
            StorageError: they are not there.
        """
        try:
            return cls(**load_file(folder / FILE))
        except Exception as error:
            raise StorageError(
                f"{folder / FILE} cannot be read ({type(error).__name__}); run the step again."
            ) from error

    def write(self, folder: Path) -> None:
        save_file(dict(vars(self)), folder / FILE)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write the lists of all texts."""
    vectors = artefact(refs, "item-vectors")

    def write(folder: Path) -> dict[str, Any]:
        near = NearTexts.among(ItemVectors.read(run.workspace.folder(vectors)), progress)
        near.write(folder)
        return {"texts": len(near.starts) - 1, "listed": len(near.ids)}

    return run.workspace.produce(STEP, run.dataset, write, inputs={"item-vectors": vectors}, config={})


def _lists(of: NDArray[np.int64], near: NDArray[np.int32], nearness: NDArray[np.float32]) -> Lists:
    """From the texts near each text (T, K + 1), nearest first, to the items that have them: up to LISTED, of equally
    near ones those with the lowest ids; those with nearness 0 are left out.
    """
    members = np.argsort(of, kind="stable")[np.count_nonzero(of < 0) :]
    sizes = np.bincount(of[of >= 0], minlength=len(near))
    begins = np.cumsum(sizes) - sizes
    lengths, ids, values = [], [], []
    for first in range(0, len(near), TEXTS_AT_ONCE):
        texts, given = near[first : first + TEXTS_AT_ONCE], nearness[first : first + TEXTS_AT_ONCE]
        taken = np.where(given > 0, np.minimum(sizes[texts], LISTED), 0)
        before = np.cumsum(taken, axis=1) - taken
        taken = np.clip(LISTED - before, 0, taken)
        found = members[ranges(begins[texts.ravel()], taken.ravel())]
        owner = np.repeat(np.arange(len(texts)), taken.sum(axis=1))
        order = np.lexsort((found, owner))
        lengths.append(taken.sum(axis=1))
        ids.append(found[order].astype(np.int32))
        values.append(np.repeat(given.ravel(), taken.ravel())[order])
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return starts, np.concatenate(ids), np.concatenate(values)
