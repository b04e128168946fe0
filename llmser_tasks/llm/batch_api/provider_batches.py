"""Questions by the thousand through a provider's Batch API, behind the same ledger.

A batch goes through three states, each written down before the next step is taken: *preparing* (its questions are
claimed, the file may be uploaded), *submitted* (the provider's id is known), *ended* (its answers are in the ledger).
Whoever calls again, after a retry, a cleared task or a crash, goes on from there. Only a crash between creating a batch
and noting its id leaves no trace with us; then the provider's own list is searched for a batch with our mark, so that
none is submitted twice.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from llmser_tasks.core.errors import InputError, Waiting
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.llm.batch_api.lines import InVain, dumped, read_line, weigh
from llmser_tasks.llm.batch_api.wire import OVER, BatchApi
from llmser_tasks.llm.dialects import Dialect, dialect_of, recall, request_body
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.error_responses import classify
from llmser_tasks.llm.errors import EndpointFatal, EndpointUnsupported
from llmser_tasks.llm.fleet import budget, fanout
from llmser_tasks.llm.fleet.ratelimit import BYTES_PER_TOKEN
from llmser_tasks.llm.outcomes import Check, Failure, Outcomes, read
from llmser_tasks.llm.question import Answer, Question
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.tables import provider_batches as table
from llmser_tasks.warehouse.tables.batches import Account, Meter
from llmser_tasks.warehouse.tables.provider_batches import Submitted

log = logging.getLogger(__name__)

MOST_QUESTIONS = 50_000  # of one batch, at OpenAI and GLM
MOST_BYTES = 90 << 20  # of its file; they take 100 or 200 MB
SOONEST_S, LATEST_S = 5.0, 600.0  # between two looks: a quarter of the batch's age, within these bounds


def answer(
    endpoint: Endpoint,
    questions: Sequence[Question],
    warehouse: Warehouse,
    progress: Progress = silent,
    *,
    account: Account,
    check: Check = lambda _: None,
) -> Outcomes:
    """What became of each question, once the provider is done with all of them.

    What a batch leaves unanswered for a passing reason counts as failed in the call that collects it; the next call
    submits it anew.

    Raises:
        Waiting: it is not; call again with the same questions.
        BudgetSpent: the run's budget is too small for them; nothing was submitted.
        EndpointFatal: a person has to act.
        Retriable: the provider cannot be reached.
        StorageError: Postgres is down.
    """
    distinct = {question.key(endpoint.model, endpoint.parameters): question for question in questions}
    missing = _missing(warehouse, distinct)
    open_ = table.ours(warehouse, account)
    failures: dict[str, Failure] = {}
    with BatchApi(endpoint) as api:
        if missing and not open_:
            _learn_dialect(endpoint, next(iter(missing.values())), warehouse, account)
            _collect_others(api, endpoint, warehouse, missing)
            missing = _missing(warehouse, missing)
            open_ = _prepare(endpoint, missing, warehouse, account) if missing else []
        waiting: list[Submitted] = []
        for row in open_:
            sent = row if row.provider_id else _submit(api, endpoint, row, missing, warehouse)
            if sent is None:
                continue
            facts = api.get(str(sent.provider_id))
            progress(0, sent.questions, "questions", f"batch {sent.provider_id}: {facts.get('status')}")
            if facts.get("status") in OVER:
                failures |= _collect(api, endpoint, sent, facts, warehouse, distinct)
            else:
                waiting.append(sent)
    missing = _missing(warehouse, missing)
    if waiting or missing.keys() - failures.keys():
        done = f"{len(distinct) - len(missing):,} of {len(distinct):,} questions are answered"
        ids = [str(row.provider_id) for row in waiting]
        age = min((row.age for row in waiting), default=0.0)
        seconds = min(LATEST_S, max(SOONEST_S, age / 4))
        raise Waiting(f"{done}; batch {', '.join(ids) or 'of another task'} is at work.", ids, seconds)
    return _outcomes(endpoint, questions, warehouse, failures, check)


def _learn_dialect(endpoint: Endpoint, question: Question, warehouse: Warehouse, account: Account) -> None:
    """Ask one question the ordinary way, where nobody has asked the endpoint yet: a refused key, an unknown model or a
    response format that it does not take shows now, and not a day later in an error file.

    Raises:
        EndpointFatal: as it says.
    """
    if recall(endpoint, warehouse) is None:
        outcomes = fanout.answer(endpoint, [question], warehouse, account=account)
        if outcomes.fatal is not None:
            raise outcomes.fatal


def _prepare(
    endpoint: Endpoint, missing: Mapping[str, Question], warehouse: Warehouse, account: Account
) -> list[Submitted]:
    """Claim the questions that no other open batch has, hold the money for them, and note the batch to come."""
    mark = f"llmser-{secrets.token_hex(16)}"
    versions = {key: question.prompt_version for key, question in missing.items()}
    with transaction(warehouse) as connection:
        mine = table.begin(connection, account, endpoint=endpoint.url, mark=mark, versions=versions)
        if not mine:  # others are asking all of them
            return []
        dialect = dialect_of(endpoint) or Dialect()
        most = sum(_most(endpoint, missing[key], dialect) for key in mine)
        limit, spent, left, _ = budget.what_is_left(connection, account.run_id)
        if most > left:
            raise budget.too_little(account.run_id, limit, spent)  # and nothing of this is kept
        table.prepared(connection, mark, questions=len(mine), held=most)
    return table.ours(warehouse, account)


def _most(endpoint: Endpoint, question: Question, dialect: Dialect) -> float:
    """What a question can cost at most."""
    tokens = round(len(request_body(endpoint, question, dialect)) / BYTES_PER_TOKEN)
    return endpoint.batch_price * (endpoint.cost(tokens, dialect.most_tokens(endpoint, question)) or 0.0)


def _submit(
    api: BatchApi, endpoint: Endpoint, row: Submitted, missing: Mapping[str, Question], warehouse: Warehouse
) -> Submitted | None:
    """Upload and create the batch, unless an earlier attempt got that far; None where nothing is left to ask."""
    found = None
    if row.input_file is None:
        lines = list(_lines(api, endpoint, table.claimed(warehouse, row.mark), missing))
        if not lines:
            _end(warehouse, row, "answered elsewhere")
            return None
        size = sum(map(len, lines))
        if len(lines) > MOST_QUESTIONS or size > MOST_BYTES:
            _end(warehouse, row, "too large")
            raise InputError(
                f"A batch of {len(lines):,} questions ({size >> 20} MiB) is more than providers take; lower "
                "users_per_batch."
            )
        row = replace(row, input_file=api.upload(b"".join(lines)))
        table.uploaded(warehouse, row.mark, str(row.input_file))
    else:
        found = api.find(row.input_file, row.mark)  # the attempt that uploaded it may have created the batch, too
    provider_id = found or api.create(str(row.input_file), row.mark)
    table.submitted(warehouse, row.mark, provider_id)
    log.info("Batch %s holds %d questions of %s, %s", provider_id, row.questions, row.step, row.run_id)
    return replace(row, provider_id=provider_id, state="submitted")


def _lines(api: BatchApi, endpoint: Endpoint, keys: Iterable[str], missing: Mapping[str, Question]) -> Iterator[bytes]:
    dialect = dialect_of(endpoint) or Dialect()
    for key in keys:
        if key in missing:
            body = orjson.Fragment(request_body(endpoint, missing[key], dialect))
            yield orjson.dumps({"custom_id": key, "method": "POST", "url": api.chat_path, "body": body}) + b"\n"


def _collect(
    api: BatchApi,
    endpoint: Endpoint,
    row: Submitted,
    facts: Mapping[str, Any],
    warehouse: Warehouse,
    questions: Mapping[str, Question],
) -> dict[str, Failure]:
    """Bring what a batch that is over holds into the ledger; why its other questions have no answer.

    Raises:
        EndpointUnsupported: the provider refused the file.
    """
    claimed = table.claimed(warehouse, row.mark)
    meter = Meter(row.account)
    entries: dict[str, Entry] = {}
    called: set[str] = set()
    failures = {key: Failure(str(facts.get("status")), True, "The batch ended without it.") for key in claimed}
    for name in ("output_file_id", "error_file_id"):
        for line in api.lines(facts[name], len(claimed)) if facts.get(name) else ():
            key = line.get("custom_id")
            if not isinstance(key, str) or key not in claimed or key in entries:
                continue  # not ours; or told twice, where the first answer counts
            if line.get("response") is not None:
                called.add(key)
            empty = Entry(key, row.step, claimed[key], endpoint.model, 1)
            found = read_line(endpoint, empty, line, questions.get(key))
            if isinstance(found, Entry):
                entries[key] = replace(found, run_id=row.run_id)
            else:
                failures[key] = found
    meter.calls = len(called)
    with transaction(warehouse) as connection:
        meter.lost += weigh(connection, endpoint, entries, failures, row.mark)
        written = list(entries.values())
        ledger.write(connection, written)
        meter.write(connection, written)
        table.ended(connection, row.mark, str(facts.get("status")))
    if facts.get("status") == "failed":
        said = orjson.dumps({"error": {"message": dumped(facts.get("errors")).decode()}})
        raise EndpointUnsupported(str(classify(endpoint, 400, {}, said)))
    return {key: failure for key, failure in failures.items() if key not in entries}


def _collect_others(api: BatchApi, endpoint: Endpoint, warehouse: Warehouse, missing: Mapping[str, Question]) -> None:
    """Collect batches of other tasks that hold questions of ours and are over, should their own tasks never come back;
    and give up what one of them meant to ask and never did."""
    for row in table.others(warehouse, endpoint.url, missing.keys()):
        provider_id = row.provider_id or api.find(row.input_file or "", row.mark)
        if provider_id is None:
            _end(warehouse, row, "abandoned")
        elif (facts := api.get(provider_id)).get("status") in OVER:
            with suppress(EndpointUnsupported):  # its own task is told
                _collect(api, endpoint, row, facts, warehouse, missing)


def _outcomes(
    endpoint: Endpoint,
    questions: Sequence[Question],
    warehouse: Warehouse,
    failures: Mapping[str, Failure],
    check: Check,
) -> Outcomes:
    """What the ledger holds now; `batches` has the bill."""
    keys = [question.key(endpoint.model, endpoint.parameters) for question in questions]
    distinct = dict(zip(keys, questions, strict=True))
    results: dict[str, Answer | Failure] = dict(failures)
    errors = (failure.error for failure in failures.values() if isinstance(failure, InVain))
    fatal = next((error for error in errors if isinstance(error, EndpointFatal)), None)
    for key, entry in ledger.known(warehouse, list(distinct)).items():
        result = results[key] = read(entry, distinct[key])
        if isinstance(result, Answer):
            check(result)
    return Outcomes(
        keys=tuple(keys),
        results=tuple(results[key] for key in keys),
        distinct=len(distinct),
        from_ledger=len(distinct) - len(failures),
        asked=len(failures),
        stopped=str(fatal) if fatal else None,
        fatal=fatal,
    )


def _missing(warehouse: Warehouse, questions: Mapping[str, Question]) -> dict[str, Question]:
    """Those that the ledger does not hold."""
    settled = ledger.known(warehouse, list(questions))
    return {key: question for key, question in questions.items() if key not in settled}


def _end(warehouse: Warehouse, row: Submitted, why: str) -> None:
    """Note that a batch is over that was never submitted."""
    with transaction(warehouse) as connection:
        table.ended(connection, row.mark, why)
