"""How the embedding ranker ranks: by sentence embedding to filter noise, by TF-IDF to reason.

Two rankings, because ARV checks the first by the second: the embedding that picked a pseudo item must not be the one
that judges it. A title is whatever the prompt shows of an item; what is computed of it (its vector, its n-grams) is
computed once and kept. A ranking depends on the question alone, never on what was asked before.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.prompts import UNTITLED
from llmser_tasks.texts.encoder import Embedder, Vectors, embed_cached

log = logging.getLogger(__name__)

HALF_LIFE = 4.0  # history items; on Beauty, 2 and 4 do alike, and better than a plain mean (MRR of 20: .373, .366)
NGRAMS = (2, 3, 4)  # characters, within words
BUCKETS = 2**18  # that n-grams are hashed to
CHUNK = 256  # unseen titles embedded at once: the first to ask need not wait for the last
MOST_TITLES = 300_000  # kept in memory, about 1 GB; then forgotten, and read back from the disk cache
ONE = np.float32(1)  # numpy adds a plain 1 forty times slower
DECIMALS = 6  # of a score: closer ones are a tie, which the order shown decides

Grams = tuple[NDArray[np.intp], NDArray[np.float32]]  # hashed n-grams, 1 + log of how often each occurs


class EmbeddingFailed(Exception):
    """The encoder failed on titles of this question, or of one embedded with it."""


class Titles:
    """What is known about the titles seen so far. Lives in one event loop; embeds in one thread of its own."""

    def __init__(self, encoder: Embedder, cache: Path | None) -> None:
        self._encoder = encoder
        self._cache = cache
        self._rows: dict[str, int] = {}
        self._vectors: Vectors = np.zeros((1024, encoder.dimension), np.float32)
        self._grams: list[Grams] = []
        self._counts = np.zeros(BUCKETS + 1, np.float32)  # scratch, zero between questions
        self._unseen: dict[str, None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._wake = asyncio.Event()
        self._learned: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    async def know(self, titles: Sequence[str]) -> None:
        """Wait until all these titles are known; titles that several questions wait for are embedded once.

        Raises:
            EmbeddingFailed: the encoder could not.
        """
        while unseen := [title for title in titles if title not in self._rows]:
            self._unseen.update(dict.fromkeys(unseen))
            self._wake.set()
            if self._learned is None:
                self._learned = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._learned)

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """(n, d) of texts that are not to be remembered.

        Raises:
            EmbeddingFailed: the encoder could not.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts))
        except (RuntimeError, MemoryError, ValueError) as error:
            log.exception("%d texts could not be embedded", len(texts))
            raise EmbeddingFailed(str(error)) from error

    async def learn(self) -> None:
        """Embed unseen titles for ever; those that arrive meanwhile go together."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unseen:
                chunk = list(itertools.islice(self._unseen, CHUNK))
                failure: EmbeddingFailed | None = None
                try:
                    self._add(chunk, *await loop.run_in_executor(self._thread, self._compute, chunk))
                except (RuntimeError, MemoryError, ValueError) as error:
                    log.exception("%d titles could not be embedded", len(chunk))
                    failure = EmbeddingFailed(str(error))
                for title in chunk:
                    del self._unseen[title]
                waiting, self._learned = self._learned, None
                if waiting is not None and not waiting.done():
                    waiting.set_exception(failure) if failure else waiting.set_result(None)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def by_embedding(self, history: Sequence[str], candidates: Sequence[str]) -> list[int]:
        """Positions of the candidates, best first: cosine to the mean of the history's embeddings (SNF).

        The mean is weighted: an item counts half as much as the one shown `HALF_LIFE` items after it, because the item
        sought is next to the one shown last.
        """
        shown = self._vectors[[self._rows[title] for title in candidates]]
        if not history:
            return _best_first(np.zeros(len(candidates)), np.asarray(shown.any(axis=1)))
        taste = _decay(len(history)) @ self._vectors[[self._rows[title] for title in history]]
        return _best_first(shown @ taste, np.asarray(shown.any(axis=1)))

    def by_ngrams(self, history: Sequence[str], candidates: Sequence[str]) -> list[int]:
        """Positions of the candidates, best first: TF-IDF over character n-grams within words (Reason).

        Term frequencies are log-damped, vectors have unit length, the history is weighted as in `by_embedding`.
        Document frequencies count the question's own titles only, so no other question moves them.
        """
        grams = [self._grams[self._rows[title]] for title in (*history, *candidates)]
        sizes = np.array([len(index) for index, _ in grams])
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        index = np.concatenate([index for index, _ in grams])
        weights = np.concatenate([frequency for _, frequency in grams])

        np.add.at(self._counts, index, ONE)
        weights *= np.log((1 + len(grams)) / (1 + self._counts[index])) + 1
        self._counts[index] = 0
        norms = np.sqrt(np.add.reduceat(weights * weights, starts))
        split = len(history)
        decay = np.concatenate((_decay(split), np.ones(len(candidates), np.float32)))
        weights *= np.repeat(decay / np.maximum(norms, 1e-9), sizes)

        cut = starts[split]
        np.add.at(self._counts, index[:cut], weights[:cut])
        scores = np.add.reduceat(weights[cut:] * self._counts[index[cut:]], starts[split:] - cut)
        self._counts[index[:cut]] = 0
        return _best_first(scores, norms[split:] > 0)

    def _compute(self, titles: list[str]) -> tuple[Vectors, list[Grams]]:
        texts = ["" if title == UNTITLED else title for title in titles]
        return self._embed(texts), [ngrams(text) for text in texts]

    def _embed(self, titles: list[str]) -> Vectors:
        if self._cache is None:
            return self._encoder.embed(titles)
        try:
            return embed_cached(self._encoder, titles, self._cache)
        except StorageError as error:  # a full disk must not stop answers
            log.warning("%s Going on without it.", error)
            self._cache = None
            return self._encoder.embed(titles)

    def _add(self, titles: list[str], vectors: Vectors, grams: list[Grams]) -> None:
        if len(self._rows) + len(titles) > MOST_TITLES:
            self._rows.clear()
            self._grams.clear()
        first = len(self._rows)
        if first + len(titles) > len(self._vectors):
            larger = np.zeros((2 * (first + len(titles)), self._vectors.shape[1]), np.float32)
            larger[:first] = self._vectors[:first]
            self._vectors = larger
        self._vectors[first : first + len(titles)] = vectors
        self._grams.extend(grams)
        self._rows.update(zip(titles, range(first, first + len(titles)), strict=True))


def ngrams(title: str) -> Grams:
    """Hashed character n-grams of a title's words, a blank at either end of each; without text, one of no weight."""
    words = [f" {word} " for word in (clean_title(title) or "").lower().split()]
    counts = Counter(word[i : i + n] for word in words for n in NGRAMS for i in range(len(word) - n + 1))
    if not counts:
        return np.array([BUCKETS], np.intp), np.zeros(1, np.float32)
    index = np.fromiter((zlib.crc32(gram.encode()) % BUCKETS for gram in counts), np.intp, len(counts))
    return index, 1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))


def _decay(count: int) -> NDArray[np.float32]:
    """Weights of history items as shown, oldest first: the last weighs 1."""
    return (0.5 ** (np.arange(count - 1, -1, -1) / HALF_LIFE)).astype(np.float32)


def _best_first(scores: NDArray[np.floating], readable: NDArray[np.bool_]) -> list[int]:
    """Order by falling score; ties keep the order shown, candidates without a readable title come last."""
    order: list[int] = np.argsort(-np.where(readable, np.round(scores, DECIMALS), -np.inf), kind="stable").tolist()
    return order
