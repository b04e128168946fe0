"""Many questions at once: only what the ledger does not hold, each distinct one once, everything paid for kept."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.llm.client import Client
from llmser_tasks.llm.dialects import recall
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import CutOff, EndpointFatal, QuestionFatal, Refused, Retriable
from llmser_tasks.llm.fleet.breaker import Breaker, Stopped
from llmser_tasks.llm.fleet.budget import Budget
from llmser_tasks.llm.fleet.claims import Claims
from llmser_tasks.llm.fleet.concurrency import Gate
from llmser_tasks.llm.fleet.ratelimit import Limiter
from llmser_tasks.llm.fleet.workers import work_through
from llmser_tasks.llm.outcomes import Check, Failure, Outcomes, read
from llmser_tasks.llm.question import Answer, Question
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables.batches import Account, Meter

ACCEPTED = "accepted"  # kind of a question that a person has agreed to leave open
TELL_S = 2.0  # how often to say that only others' answers are missing, and to give back money that is not in use


@dataclass
class _Tally:
    """What a running call has done so far."""

    total: int
    done: int = 0
    asked: int = 0
    calls: int = 0
    found: int = 0  # settled by others meanwhile
    settled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    started: float = field(default_factory=time.monotonic)

    def count(self, outcome: Entry | Failure) -> None:
        self.done += 1
        self.asked += not (isinstance(outcome, Failure) and outcome.kind == Stopped.kind)
        if isinstance(outcome, Entry):
            self.settled += 1
            self.prompt_tokens += outcome.prompt_tokens or 0
            self.completion_tokens += outcome.completion_tokens or 0
            if outcome.cost is not None:
                self.cost = (self.cost or 0.0) + outcome.cost

    def note(self) -> str:
        rate = self.settled / max(time.monotonic() - self.started, 1e-3)
        parts = [f"{rate:,.0f} answers/s", f"{self.prompt_tokens + self.completion_tokens:,} tokens"]
        if self.cost is not None:
            parts.append(f"cost {self.cost:,.4f}")
        return ", ".join(parts)


def answer(
    endpoint: Endpoint,
    questions: Sequence[Question],
    warehouse: Warehouse,
    progress: Progress = silent,
    account: Account | None = None,
    check: Check = lambda _: None,
) -> Outcomes:
    """Answer every question from the ledger, or else from the endpoint, at most `max_concurrency` at a time.

    A question that another batch is asking at this moment is not asked again; its answer is waited for. Answers are
    committed while others are still waited for, and in any case before this returns or raises, so a killed or failed
    batch pays again for little or nothing. Runs an event loop of its own.

    Args:
        account: the batch that pays, and through it the run whose budget holds; None: nobody keeps count.
        check: sees every answer, those of the ledger first; what it raises (EndpointFatal) ends the batch.

    Raises:
        InputError: the run has a budget, and the endpoint's prices are not known.
        StorageError: Postgres is down, before anything was asked or while the last answers were written.
    """
    keys = [question.key(endpoint.model, endpoint.parameters) for question in questions]
    distinct = dict(zip(keys, questions, strict=True))
    settled = ledger.known(warehouse, list(distinct))
    missing = {key: question for key, question in distinct.items() if key not in settled}
    results = {key: read(entry, distinct[key]) for key, entry in settled.items()}
    for result in results.values():
        if isinstance(result, Answer):
            check(result)
    tally = _Tally(total=len(distinct), done=len(settled))
    progress(tally.done, tally.total, "questions", "from the ledger" if settled else "")
    meter = Meter(account) if account else None
    writer = ledger.Writer(warehouse, meter)
    cause: Exception | None = None
    if missing:
        recall(endpoint, warehouse)
        batch = _Batch(endpoint, missing, warehouse, meter, writer, results, tally, progress, check)
        gc.freeze()  # questions and modules outlive this: walking them again and again took a fifth of its CPU time
        try:
            cause = asyncio.run(_ask_all(batch))
        finally:
            gc.unfreeze()
            writer.flush()
    if writer.answered_first:
        for key, entry in ledger.known(warehouse, list(writer.answered_first)).items():
            results[key] = read(entry, distinct[key])
    for key in missing:
        results.setdefault(key, Failure(Stopped.kind, True, str(cause)))
    return Outcomes(
        keys=tuple(keys),
        results=tuple(results[key] for key in keys),
        distinct=len(distinct),
        from_ledger=len(settled) + tally.found,
        asked=tally.asked,
        calls=tally.calls,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        cost=tally.cost,
        seconds=time.monotonic() - tally.started,
        stopped=str(cause) if cause else None,
        fatal=cause if isinstance(cause, EndpointFatal | StorageError) else None,
    )


def known(endpoint: Endpoint, questions: Sequence[Question], warehouse: Warehouse) -> Outcomes:
    """What the ledger holds of these questions; nothing is asked, and what it does not hold stays open.

    Raises:
        StorageError: Postgres is down.
    """
    keys = [question.key(endpoint.model, endpoint.parameters) for question in questions]
    distinct = dict(zip(keys, questions, strict=True))
    settled = ledger.known(warehouse, list(distinct))
    answers = {key: read(entry, distinct[key]) for key, entry in settled.items()}
    accepted = Failure(ACCEPTED, True, "The run goes on without it.")
    return Outcomes(
        keys=tuple(keys),
        results=tuple(answers.get(key, accepted) for key in keys),
        distinct=len(distinct),
        from_ledger=len(settled),
    )


@dataclass(frozen=True)
class _Batch:
    """What a running call works on; `missing` holds what the ledger does not, `results` what is known so far."""

    endpoint: Endpoint
    missing: Mapping[str, Question]
    warehouse: Warehouse
    meter: Meter | None
    writer: ledger.Writer
    results: dict[str, Answer | Failure]
    tally: _Tally
    progress: Progress
    check: Check

    @property
    def open(self) -> int:
        """Distinct questions without an outcome."""
        return self.tally.total - self.tally.done

    def found(self, entries: Collection[Entry]) -> None:
        """Others have settled these meanwhile."""
        self.results.update((one.question_key, read(one, self.missing[one.question_key])) for one in entries)
        self.tally.done += len(entries)
        self.tally.found += len(entries)
        self.tell()

    def tell(self, note: str = "") -> None:
        self.progress(self.tally.done, self.tally.total, "questions", note or self.tally.note())


async def _ask_all(batch: _Batch) -> Exception | None:
    """A fixed number of workers take one question after another, so memory does not grow with the number of questions.

    Returns:
        Why the batch was stopped early, where it was.
    """
    endpoint, warehouse, meter, writer = batch.endpoint, batch.warehouse, batch.meter, batch.writer
    breaker = Breaker(endpoint)
    run_id = meter.account.run_id if meter else None

    async def work(client: Client, claims: Claims) -> None:
        while (key := await claims.following()) is not None:
            question = batch.missing[key]
            try:
                entry = await _ask_one(endpoint, client, key, question, run_id)
                enough = isinstance(entry, Entry) and writer.add(entry)  # before anything else: it is paid for
                batch.results[key] = result = read(entry, question) if isinstance(entry, Entry) else entry
                batch.tally.count(entry)
                if isinstance(entry, Failure):
                    await claims.release([key])
                elif enough:
                    await writer.write()
                if isinstance(result, Answer):
                    batch.check(result)
            except (EndpointFatal, StorageError) as error:
                breaker.trip(error)
            batch.tell()

    async def write_in_time() -> None:
        try:
            await writer.keep_writing()
        except StorageError as error:
            breaker.trip(error)

    async def keep_others_going(claims: Claims, budget: Budget) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            if claims.waiting and claims.waiting == batch.open:
                batch.tell(f"{claims.waiting} are being asked by other batches")
            await budget.rest()

    async with (
        Claims(warehouse, batch.missing, breaker, batch.found) as claims,
        Gate(endpoint, warehouse, claims.owner, breaker, lambda: batch.open - claims.waiting) as gate,
        Limiter(endpoint, warehouse, breaker) as limiter,
        Budget(endpoint, warehouse, meter, claims.owner, breaker) as budget,
        Client(endpoint, gate, limiter, budget, breaker, warehouse) as client,
    ):
        in_flight = min(endpoint.max_concurrency, len(batch.missing))
        workers = [work(client, claims) for _ in range(in_flight)]
        try:
            await work_through(workers, beside=[write_in_time(), keep_others_going(claims, budget)])
        finally:
            batch.tally.calls = client.calls
            await writer.write()  # before the claims end, or others would ask the same questions
    return breaker.cause


async def _ask_one(
    endpoint: Endpoint, client: Client, key: str, question: Question, run_id: str | None
) -> Entry | Failure:
    """The ledger's row for a question that was answered or failed for good; else why neither happened."""
    row = Entry(
        question_key=key,
        step=question.step,
        prompt_version=question.prompt_version,
        model=endpoint.model,
        attempts=1,
        run_id=run_id,
    )
    try:
        reply = await client.ask(question)
    except QuestionFatal as error:
        return replace(row, failure=error.kind)
    except (Retriable, Refused, CutOff) as error:
        return Failure(error.kind, True, str(error))
    cost = endpoint.cost(reply.prompt_tokens, reply.completion_tokens)
    return reply.enter(row, None if reply.billed else cost)
