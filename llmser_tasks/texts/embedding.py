"""What a run embeds texts with: a BERT that runs here, or an endpoint that is asked and paid.

Whichever it is, a distinct text is embedded once: vectors of a BERT are kept in the artefact store (`encoder`), those
of an endpoint in the ledger, and both are shared by all datasets and refreshes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from llmser_tasks.core.errors import InputError, LlmserError
from llmser_tasks.core.files import EMBEDDINGS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Run
from llmser_tasks.llm.embedding import fanout, wire
from llmser_tasks.llm.embedding.estimate import estimate as estimated
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.estimate import Estimate
from llmser_tasks.texts.encoder import Encoder, embed_cached, locate, weights_digest
from llmser_tasks.texts.vectors import Vectors
from llmser_tasks.warehouse.tables import batches, runs
from llmser_tasks.warehouse.tables.batches import Account, Standing

log = logging.getLogger(__name__)

OF_AN_ENCODER = 480  # characters of a text that are worth composing: it reads some 128 tokens


@dataclass(frozen=True)
class Embedded:
    """Texts as vectors.

    Attributes:
        vectors: (n, d), unit rows; zeros for an empty text, and for one that the endpoint refuses.
        about: what they were made by and came to, JSON-ready.
    """

    vectors: Vectors
    about: dict[str, Any]


class Embedder(Protocol):
    """What texts are embedded with."""

    @property
    def longest(self) -> int:
        """Characters of a text that it reads, about."""

    def prepare(self) -> None:
        """
        Raises:
            InputError: it is not there.
        """

    @property
    def digest(self) -> str:
        """Of all that a text's vector depends on beside the text; known without loading or asking anything."""

    def embed(self, texts: Sequence[str], progress: Progress = silent) -> Embedded:
        """
        Args:
            texts: clean ones; "" where there is none.
        """

    def estimate(self, texts: Sequence[str]) -> Estimate | None:
        """What these will cost; None: nothing."""


def embedder(run: Run, step: str) -> Embedder:
    """
    Args:
        step: which pays, if anything is to be paid.
    """
    named, asked = run.config.texts.vectors, run.config.texts.connection()
    return Bert(run, named or run.config.reliability.encoder) if asked is None else Asked(run, step, asked)


@dataclass(frozen=True)
class Bert:
    """A BERT on this machine."""

    run: Run
    name: str
    longest: int = OF_AN_ENCODER

    def prepare(self) -> None:
        locate(self.name)

    @cached_property
    def digest(self) -> str:
        return weights_digest(self.name)

    def embed(self, texts: Sequence[str], progress: Progress = silent) -> Embedded:
        encoder = Encoder.open(self.name)
        vectors = embed_cached(encoder, texts, self.run.workspace.root / EMBEDDINGS, progress)
        return Embedded(vectors, {"model": self.name, "dimension": encoder.dimension, "encoder_hash": encoder.hash})

    def estimate(self, texts: Sequence[str]) -> Estimate | None:
        del texts
        return None


@dataclass(frozen=True)
class Asked:
    """An endpoint's /v1/embeddings."""

    run: Run
    step: str
    name: str
    longest: int = wire.LONGEST

    def prepare(self) -> None:
        assert self._endpoint

    @property
    def digest(self) -> str:
        return wire.identity(self._endpoint)

    def embed(self, texts: Sequence[str], progress: Progress = silent) -> Embedded:
        """
        Raises:
            InputError: it would cost more than the run's budget has left, or nobody knows what it costs.
            LlmError: the endpoint does not do it; what it did is kept.
            StorageError: Postgres is down.
        """
        endpoint, warehouse = self._endpoint, self.run.warehouse
        there = [text for text in texts if text]
        account = Account(self.run.run_id, self.step, 0)
        expected = self.estimate(there)
        if expected.calls:
            log.info("%s", _sentence(expected, endpoint))
            self._refuse_what_is_too_dear(expected)
        with self._billed(account, len(there), anything=expected.calls > 0):
            made = fanout.embed(endpoint, there, warehouse, self.step, progress, account)
        if made.refused:
            log.warning("%d texts are refused by LLM endpoint %s; they have no vector.", made.refused, endpoint.name)
        lengths = np.linalg.norm(made.vectors, axis=1, keepdims=True)
        vectors = np.zeros((len(texts), made.dimension), np.float32)
        vectors[[row for row, text in enumerate(texts) if text]] = made.vectors / np.where(lengths > 0, lengths, 1)
        about: dict[str, Any] = {"model": endpoint.model, "dimension": made.dimension, "encoder_hash": self.digest}
        asked = {"calls": made.calls, "tokens": made.tokens, "cost": made.cost, "refused": made.refused}
        return Embedded(vectors, about | asked)

    def estimate(self, texts: Sequence[str]) -> Estimate:
        return estimated(self._endpoint, [text for text in texts if text], self.run.warehouse, self.step)

    @cached_property
    def _endpoint(self) -> Endpoint:
        found = self.run.endpoint_of(self.name)
        assert isinstance(found, Endpoint)
        return found.for_embedding()

    @contextmanager
    def _billed(self, account: Account, texts: int, *, anything: bool) -> Iterator[None]:
        """The bill's row in `batches`. How the embedding went is told by the step: nobody can go on without some of its
        texts, as with batches of users, so it is never one that failed.

        Args:
            anything: there is something to pay.
        """
        if not anything:
            yield
            return
        note = partial(batches.record, self.run.warehouse, account, "texts", texts)
        note(Standing("running"))
        try:
            yield
        except LlmserError as error:
            note(Standing("done", message=str(error)))
            raise
        note(Standing("done", answered=texts))

    def _refuse_what_is_too_dear(self, expected: Estimate) -> None:
        """
        Raises:
            InputError: the run's budget has less left than this is going to cost.
        """
        spent, budget = runs.spending(self.run.warehouse, self.run.run_id)
        if budget is not None and expected.cost is not None and spent + expected.cost > budget:
            raise InputError(
                f"Embedding the texts of run {self.run.run_id} will cost about {expected.cost:.4g}, and its budget has "
                f"{budget - spent:.4g} left; nothing was asked. `llmser budget {self.run.run_id} AMOUNT` raises it."
            )


def _sentence(expected: Estimate, endpoint: Endpoint) -> str:
    price = "an unknown price" if expected.cost is None else f"about {expected.cost:,.4f}"
    return (
        f"LLM endpoint {endpoint.name} embeds {expected.questions - expected.answered:,} texts with {endpoint.model}: "
        f"{expected.calls:,} calls, about {expected.prompt_tokens:,} tokens, {price}; {expected.answered:,} are known."
    )
