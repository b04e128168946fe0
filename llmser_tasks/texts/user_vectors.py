"""A vector a user, of what they chose: users with like vectors are neighbours. They depend on training histories and
the catalogue alone.

Either the mean of their items' vectors, the newer the heavier; or the vector of a text of their newest titles, which is
that of LLM-ESR's public code (what this loses where a text is cut, the newest titles, is kept here); or the vector of
what an LLM concludes from these, which is LLM-ESR's (§3.2.3). Users about whom it said nothing of use have the mean.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file

from llmser_tasks.asking.user_texts import UserTexts
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.llm.estimate import Estimate
from llmser_tasks.llm.free_text import LONGEST_TEXT
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts import embedding
from llmser_tasks.texts.vectors import ItemVectors, Vectors

log = logging.getLogger(__name__)

DECLARED = Step(title="Embed users", place=2, needs=("item-vectors", "user-summary"))

STEP = "user-vectors"
SUMMARY = "user-summary"  # the question step that has users summarised
FILE = "user_vectors.safetensors"
USERS_AT_ONCE = 8192  # whose vectors are summed at once
BEGINNING = "The user has chosen the following {noun}s, the latest first: "
BETWEEN = ", "
NOT_EMBEDDED = "not embedded"  # why a user who has a summary has no vector of it
END = ". Conclude the user's preference."


def prepare(run: Run) -> None:
    """
    Raises:
        InputError: what embeds is not there.
    """
    embedding.embedder(run, STEP).prepare()


def estimate(run: Run, refs: Refs) -> Estimate | None:
    """What an endpoint will take for it; None where none is asked."""
    if run.config.texts.user_vectors == "mean" or run.config.texts.connection() is None:
        return None
    embedder = embedding.embedder(run, STEP)
    longest = embedder.longest
    if run.config.texts.user_vectors == "summary":  # not written yet, so texts about as long stand in for them
        longest = min(longest, LONGEST_TEXT)
    return embedder.estimate(_texts(run, refs, longest))


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write (U, d) vectors, a row for each of the training histories; zeros for users whose items have no text."""
    ways = {"mean": _means, "titles": _of_titles, "summary": _of_summaries}
    return ways[run.config.texts.user_vectors](run, refs, progress)


def features(folder: Path) -> dict[str, Vectors]:
    """`user_vectors`: (U, d) float32, unit rows; zeros for users whose items have no text."""
    return {"user_vectors": load_file(folder / FILE)["vectors"]}


def _means(run: Run, refs: Refs, progress: Progress) -> Artefact:
    def write(folder: Path) -> dict[str, Any]:
        items = ItemVectors.read(run.folder(refs, "item-vectors"))
        return _written(folder, weighted_means(Histories.of_run(run, refs), items.vectors, progress))

    inputs = {name: artefact(refs, name) for name in ("training", "item-vectors")}
    return run.workspace.produce(STEP, run.dataset, write, inputs=inputs, config={"user_vectors": "mean"})


def _of_titles(run: Run, refs: Refs, progress: Progress) -> Artefact:
    embedder = embedding.embedder(run, STEP)

    def write(folder: Path) -> dict[str, Any]:
        embedded = embedder.embed(_texts(run, refs, embedder.longest), progress)
        return _written(folder, embedded.vectors) | embedded.about

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={name: artefact(refs, name) for name in ("training", "catalogue")},
        config={
            "user_vectors": "titles",
            "encoder": embedder.digest,
            "longest": embedder.longest,
            "noun": run.config.dataset.noun,
        },
    )


def _of_summaries(run: Run, refs: Refs, progress: Progress) -> Artefact:
    """
    Raises:
        InputError: there are users who have not been asked about yet.
    """
    embedder = embedding.embedder(run, STEP)
    summaries = UserTexts.of_run(run, refs, SUMMARY)

    def write(folder: Path) -> dict[str, Any]:
        histories, items = Histories.of_run(run, refs), ItemVectors.read(run.folder(refs, "item-vectors"))
        texts, reasons = summaries.of(histories.users)
        vectors, about = np.zeros((len(texts), items.vectors.shape[1]), np.float32), dict[str, Any]()
        if any(texts):
            embedded = embedder.embed([text or "" for text in texts], progress)
            vectors, about = embedded.vectors, embedded.about
        without = np.flatnonzero(~vectors.any(axis=1)).astype(np.int64)
        vectors[without] = weighted_means(histories.select(without), items.vectors)
        why = dict(Counter(reasons[row] or NOT_EMBEDDED for row in without))
        if why:
            log.warning("%s", _by_mean(len(texts), why))
        counts = {"summaries": len(texts) - len(without), "by_mean": why}
        return _written(folder, vectors) | counts | about

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={
            **{name: artefact(refs, name) for name in ("training", "catalogue", "item-vectors")},
            "summaries": summaries.content(),
        },
        config={"user_vectors": "summary", "encoder": embedder.digest},
    )


def _by_mean(users: int, why: Mapping[str, int]) -> str:
    told = ", ".join(f"{number:,} × {reason}" for reason, number in sorted(why.items(), key=lambda one: -one[1]))
    return (
        f"{sum(why.values()):,} of {users:,} users have no summary ({told}); the mean of their items' vectors stands "
        "for them."
    )


def weighted_means(histories: Histories, items: Vectors, progress: Progress = silent) -> Vectors:
    """(U, d) unit vectors of Σ_k vector of the k-th item from the end / k; zeros where no item has a vector.

    Args:
        items: (I + 1, d).
    """
    made = np.zeros((len(histories), items.shape[1]), np.float32)
    for first in range(0, len(histories), USERS_AT_ONCE):
        part = histories.select(np.arange(first, min(first + USERS_AT_ONCE, len(histories))))
        owner = np.repeat(np.arange(len(part)), part.lengths)
        from_end = part.offsets[1:][owner] - np.arange(len(part.items))
        shape = (len(part), len(items))
        sums = sp.csr_matrix((1 / from_end, part.items, part.offsets), shape=shape) @ items.astype(np.float64)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        made[first : first + len(part)] = sums / np.where(lengths > 0, lengths, 1)
        progress(first + len(part), len(histories), "users")
    return made


def user_text(titles: Sequence[str], noun: str, longest: int) -> str:
    """What stands for a user: the newest titles that fit, the latest first, so that what reads less than this leaves
    the oldest out; "" where there is none.

    Args:
        titles: oldest first.
        longest: characters of it all.
    """
    if not titles:
        return ""
    beginning = BEGINNING.format(noun=noun)
    left = longest - len(beginning) - len(END)
    shown: list[str] = []
    for title in reversed(titles):
        left -= len(title) + len(BETWEEN) * bool(shown)
        if left < 0 and shown:
            break
        shown.append(title)
    return f"{beginning}{BETWEEN.join(shown)}"[: longest - len(END)] + END


def _texts(run: Run, refs: Refs, longest: int) -> list[str]:
    """Every training user's text."""
    histories, known, noun = Histories.of_run(run, refs), Catalogue.of_run(run, refs), run.config.dataset.noun
    texts = []
    for first in range(0, len(histories), USERS_AT_ONCE):
        part = histories.select(np.arange(first, min(first + USERS_AT_ONCE, len(histories))))
        titles, ends = known.titles_of(part.items), part.offsets.tolist()
        texts += [
            user_text([title for title in titles[start:end] if title], noun, longest)
            for start, end in itertools.pairwise(ends)
        ]
    return texts


def _written(folder: Path, vectors: Vectors) -> dict[str, Any]:
    save_file({"vectors": vectors}, folder / FILE)
    with_text = int(np.count_nonzero(vectors.any(axis=1)))
    return {"users": len(vectors), "with_text": with_text, "dimension": int(vectors.shape[1])}
