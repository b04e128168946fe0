"""Texts that are being embedded together: what is known of them so far, and the ledger's rows of what came back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.progress import Progress
from llmser_tasks.llm.embedding.wire import VERSION, Embedded, Vector, text_of, vector_of
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointUnsupported
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables.batches import Meter

TEXTS = 64  # in one request: the most that GLM takes; who takes fewer refuses, and is asked with half as many


@dataclass
class Tally:
    """What a call has come to so far."""

    total: int
    done: int = 0
    calls: int = 0
    tokens: int = 0
    cost: float | None = None
    from_ledger: int = 0
    refused: int = 0
    dimension: int = 0
    together: int = TEXTS  # in one request, as far as the endpoint is known to take them


@dataclass(frozen=True)
class Batch:
    """What is worked on: `missing` are texts that the ledger did not know, `vectors` what is known (None: refused)."""

    endpoint: Endpoint
    missing: Mapping[str, str]
    warehouse: Warehouse
    step: str
    writer: ledger.Writer
    meter: Meter | None
    tally: Tally
    progress: Progress
    vectors: dict[str, Vector | None] = field(default_factory=dict)

    @property
    def left(self) -> set[str]:
        """Keys that nothing is known of yet."""
        return self.missing.keys() - self.vectors.keys()

    def take(self, entries: Collection[Entry]) -> None:
        """
        Raises:
            EndpointUnsupported: a vector is longer or shorter than the others of this model.
        """
        for entry in entries:
            vector = None if entry.content is None else vector_of(entry.content)
            self.vectors[entry.question_key] = vector
            self.tally.refused += vector is None
            if vector is not None:
                self.check(len(vector))
        self.tally.done += len(entries)
        self.progress(self.tally.done, self.tally.total, "texts")

    def check(self, dimension: int) -> None:
        if self.tally.dimension not in {0, dimension}:
            raise EndpointUnsupported(
                f"LLM endpoint {self.endpoint.name} embeds with {dimension} dimensions now, and did with "
                f"{self.tally.dimension} before, so {self.endpoint.model} is not the model that it was; name another "
                f"in its connection, or forget its vectors (`llmser answers prune --model {self.endpoint.model}`)."
            )
        self.tally.dimension = dimension


def entries(batch: Batch, keys: Sequence[str], texts: Sequence[str], made: Embedded, attempt: int) -> Iterator[Entry]:
    """The ledger's rows; each text has its share of the tokens, by its bytes."""
    sizes = [max(1, len(text.encode())) for text in texts]
    shares = _shares(made.tokens, sizes)
    for one, size, vector, tokens in zip(keys, sizes, made.vectors, shares, strict=True):
        cost = batch.endpoint.cost(tokens, 0)
        batch.tally.tokens += tokens or 0
        if cost is not None:
            batch.tally.cost = (batch.tally.cost or 0.0) + cost
        yield entry(
            batch,
            one,
            attempts=attempt,
            answered_by=made.answered_by,
            content=text_of(vector),
            prompt_tokens=tokens,
            cost=cost,
            prompt_bytes=size,
        )


def entry(batch: Batch, one: str, attempts: int = 1, **more: object) -> Entry:
    """The ledger's row of one text."""
    run_id = batch.meter.account.run_id if batch.meter else None
    return Entry(one, batch.step, VERSION, batch.endpoint.model, attempts, run_id=run_id, **more)  # type: ignore[arg-type]


def _shares(tokens: int | None, sizes: Sequence[int]) -> list[int | None]:
    """Whole numbers that add up."""
    if tokens is None:
        return [None] * len(sizes)
    bounds = np.floor(np.cumsum(sizes, dtype=np.float64) / sum(sizes) * tokens + 0.5).astype(int)
    return [int(share) for share in np.diff(bounds, prepend=0)]
