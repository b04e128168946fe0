"""Many texts at once: only what the ledger does not hold, each distinct one once, everything paid for kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.llm.embedding.batch import TEXTS, Batch, Tally, entries, entry
from llmser_tasks.llm.embedding.client import Client
from llmser_tasks.llm.embedding.wire import key, shortened
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import PromptTooLong, QuestionFatal, Refused
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.llm.fleet.budget import Budget
from llmser_tasks.llm.fleet.claims import Claims
from llmser_tasks.llm.fleet.concurrency import Gate
from llmser_tasks.llm.fleet.ratelimit import BYTES_PER_TOKEN, Limiter
from llmser_tasks.llm.fleet.workers import work_through
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables.batches import Account, Meter

TOKENS = 16_000  # in one request, as far as bytes tell: of servers that bound them, the least is Mistral's
REST_S = 2.0  # how often to give back money that is not in use: whoever this waits for may need it
LOOKED_UP = 4096  # texts at once; of 3,072 dimensions, 64 MB
SHORTEST = 64  # characters to which a text is cut that is too long for the model


@dataclass(frozen=True)
class Vectors:
    """What became of the texts.

    Attributes:
        vectors: (n, d) in the order of the texts; zeros for those that the endpoint refuses for good.
        dimension: d.
        refused: distinct texts that it refuses.
        from_ledger, calls, tokens, cost: of the distinct texts, what was there, and what the others took.
    """

    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    dimension: int
    refused: int = 0
    from_ledger: int = 0
    calls: int = 0
    tokens: int = 0
    cost: float | None = None


def embed(
    endpoint: Endpoint,
    texts: Sequence[str],
    warehouse: Warehouse,
    step: str,
    progress: Progress = silent,
    account: Account | None = None,
) -> Vectors:
    """The vectors of texts, from the ledger, or else from the endpoint, a few at a time.

    Each response is committed as it comes, so a killed or failed run pays again for little or nothing; a text that
    another run is embedding at this moment is waited for. Runs an event loop of its own.

    Args:
        texts: none of them empty.
        step: only for the ledger's readers.
        account: the batch that pays, and through it the run whose budget holds; None: nobody keeps count.

    Raises:
        InputError: the run has a budget, and the endpoint's prices are not known.
        LlmError: something is left that nobody has embedded; what was is kept.
        StorageError: Postgres is down.
    """
    of = {text: key(endpoint, text) for text in texts}
    keys = list(dict.fromkeys(of.values()))
    by_key = {of[text]: shortened(text) for text in reversed(of)}
    rows = {one: row for row, one in enumerate(keys)}
    tally = Tally(len(keys))
    made: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None = None
    meter = Meter(account) if account else None
    for some in _parts(keys, LOOKED_UP):
        writer = ledger.Writer(warehouse, meter)
        known = ledger.known(warehouse, some)
        missing = {one: by_key[one] for one in some if one not in known}
        batch = Batch(endpoint, missing, warehouse, step, writer, meter, tally, progress)
        batch.take(known.values())
        tally.from_ledger += len(known)
        if missing:
            _ask(batch)
        if made is None and tally.dimension:
            made = np.zeros((len(keys), tally.dimension), np.float32)
        for one, vector in batch.vectors.items():
            if vector is not None:
                assert made is not None
                made[rows[one]] = vector
    if made is None:
        made = np.zeros((len(keys), 1), np.float32)
    return Vectors(
        vectors=made[[rows[of[text]] for text in texts]] if len(texts) else made,
        dimension=made.shape[1],
        refused=tally.refused,
        from_ledger=tally.from_ledger,
        calls=tally.calls,
        tokens=tally.tokens,
        cost=tally.cost,
    )


def calls_for(texts: int, tokens: float, together: int = TEXTS) -> int:
    """How many requests so many texts take at the least."""
    return max(math.ceil(texts / together), math.ceil(tokens / TOKENS))


def _ask(batch: Batch) -> None:
    """
    Raises:
        LlmError, StorageError: why something is left.
    """
    try:
        cause = asyncio.run(_ask_all(batch))
    finally:
        batch.writer.flush()
    if batch.left:
        raise cause or Stopped(f"{len(batch.left):,} texts were left without a vector; rerun the step.")


async def _ask_all(batch: Batch) -> Exception | None:
    """A fixed number of workers take a few texts after another; returns why they stopped early, if they did."""
    endpoint, warehouse, meter = batch.endpoint, batch.warehouse, batch.meter
    breaker = Breaker(endpoint)
    sizes = {one: len(text.encode()) for one, text in batch.missing.items()}

    def fits(few: list[str], other: str) -> bool:
        tokens = sum(sizes[one] for one in (*few, other)) / BYTES_PER_TOKEN
        return len(few) < batch.tally.together and tokens <= TOKENS

    def found(entries: Collection[Entry]) -> None:
        batch.tally.from_ledger += len(entries)
        batch.take(entries)

    def open_requests() -> int:
        left = batch.left
        texts = max(len(left) - claims.waiting, 0)
        return calls_for(texts, sum(sizes[one] for one in left) / BYTES_PER_TOKEN, batch.tally.together) if texts else 0

    async def work(client: Client) -> None:
        while keys := await claims.following_few(fits):
            try:
                await _settle(batch, client, keys)
            except LlmserError as error:  # the others stop, too: what is missing cannot be gone on without
                await claims.release(keys)
                breaker.trip(error)

    async def rest(budget: Budget) -> None:
        while True:
            await asyncio.sleep(REST_S)
            await budget.rest()

    async with (
        Claims(warehouse, batch.missing, breaker, found) as claims,
        Gate(endpoint, warehouse, claims.owner, breaker, open_requests) as gate,
        Limiter(endpoint, warehouse, breaker) as limiter,
        Budget(endpoint, warehouse, meter, claims.owner, breaker) as budget,
        Client(endpoint, gate, limiter, budget, breaker) as client,
    ):
        in_flight = min(endpoint.max_concurrency, len(batch.missing))
        try:
            await work_through([work(client) for _ in range(in_flight)], beside=[rest(budget)])
        finally:
            batch.tally.calls += client.calls
            await batch.writer.write()  # before the claims end, or others would ask the same
    return breaker.cause


async def _settle(batch: Batch, client: Client, keys: Sequence[str], longest: int | None = None) -> None:
    """Embed these texts and commit what came of them; where the endpoint refuses them together, half of them each,
    and one that it finds too long is cut.

    Args:
        longest: characters to which they are cut.

    Raises:
        LlmError: it came to nothing.
    """
    if len(keys) > batch.tally.together:
        for some in _parts(keys, batch.tally.together):
            await _settle(batch, client, some)
        return
    texts = [batch.missing[one][:longest] for one in keys]
    try:
        made, attempt = await client.embed(texts)
    except (Refused, QuestionFatal) as error:
        if len(keys) > 1:
            middle = (len(keys) + 1) // 2
            await _settle(batch, client, keys[:middle])
            if isinstance(error, Refused):  # half of them are taken, so it was their number
                batch.tally.together = min(batch.tally.together, middle)
            await _settle(batch, client, keys[middle:])
            return
        if isinstance(error, PromptTooLong) and len(texts[0]) > SHORTEST:
            await _settle(batch, client, keys, max(len(texts[0]) // 2, SHORTEST))
            return
        if isinstance(error, Refused):
            raise
        found = [entry(batch, keys[0], failure=error.kind)]
    else:
        batch.check(len(made.vectors[0]))
        found = list(entries(batch, keys, texts, made, attempt))
    for one in found:
        batch.writer.add(one)
    await batch.writer.write()
    others = batch.writer.answered_first & set(keys)
    if others:
        batch.writer.answered_first -= others
        kept = ledger.known(batch.warehouse, list(others))
        found = [kept.get(one.question_key, one) for one in found]
    batch.take(found)


def _parts(keys: Sequence[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(keys), size):
        yield list(keys[first : first + size])
