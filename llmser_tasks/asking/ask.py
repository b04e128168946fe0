"""Asking an LLM about a batch of users, whatever the question step.

Answers live in the ledger, one row per distinct question, committed as they arrive; what was made of them is one row
per user, in the table of the step's kind of answer; what the batch cost lives in `batches`. So a batch that is killed,
fails half-way or is cleared asks only for what the ledger does not hold.

The way of one answer:

- `llm.replies.Reply`: what came over the wire.
- `warehouse.ledger.Entry`: its row in `answers`, committed before anything is made of it.
- `llm.question.Answer`: what it says to its question. Whoever has the row, new or from the ledger, reads it here and
  once (`llm.outcomes.read`); only a reply that was cut off is read before, to see whether it says anything.
- the row of its user, which the step's kind of answer makes (`questions.Answers`): `picks.Pick`, with items in the
  place of candidates, or `user_texts.UserText`; `Picks` and `UserTexts` have a whole step's.
- a method's own figures, such as ω and α (`methods.llmser.score`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.asking.questions import Answers, Inquiry, QuestionModule, inquiries
from llmser_tasks.core.errors import InputError, LlmserError, Waiting
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.text import clean_title
from llmser_tasks.llm.batch_api import provider_batches
from llmser_tasks.llm.endpoint import RANKER_MODEL, Endpoint
from llmser_tasks.llm.errors import Nonsense, Retriable
from llmser_tasks.llm.fleet import fanout
from llmser_tasks.llm.fleet.breaker import Stopped
from llmser_tasks.llm.outcomes import Failure, Outcomes
from llmser_tasks.llm.question import Answer
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import acceptance, batches
from llmser_tasks.warehouse.tables.batches import Standing

JUDGED_FROM = 20  # answers; with fewer, a bad share may be chance
MOST_TASKS = 300  # more mapped tasks cost the scheduler more than they save


@dataclass(frozen=True)
class Batch:
    """Users `first` to `last`, both included, of those that are asked: rows of the training histories, all of them or,
    in a refresh, the open ones.
    """

    batch: int
    first: int
    last: int
    label: str

    @property
    def users(self) -> int:
        return self.last - self.first + 1

    def of(self, sequences: Histories, open_rows: NDArray[np.int64] | None = None) -> Histories:
        """This batch's rows of an artefact that has one row per training user.

        Args:
            open_rows: the rows of those that are asked, ascending; None: everybody is.
        """
        rows = np.arange(self.first, self.last + 1)
        return sequences.select(rows if open_rows is None else open_rows[rows])


class Unanswered(Retriable):
    """More users of a batch than tolerated have no answer for a passing reason."""

    kind = "unanswered"


def plan(users: int, users_per_batch: int) -> list[Batch]:
    """Cut rows 0 … users-1 into batches of `users_per_batch`, larger ones where that would make more than 300."""
    size = max(users_per_batch, -(-users // MOST_TASKS))
    batches = []
    for number, first in enumerate(range(0, users, size)):
        last = min(first + size, users) - 1
        batches.append(Batch(number, first, last, f"users {first}–{last}"))
    return batches


def ask_batch(
    run: Run,
    refs: Refs,
    step: str,
    batch: Batch,
    endpoint: Endpoint,
    open_rows: NDArray[np.int64] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Ask about every user of a batch; the answers become rows, a user each. Returns and raises as `ask`.

    Args:
        open_rows: whom the batch counts, as `Batch.of` takes them.
    """
    module: QuestionModule = QUESTION_STEPS.load(step)
    if (obstacle := module.ANSWERS.obstacle(ranker=endpoint.model == RANKER_MODEL)) is not None:
        raise InputError(obstacle)
    known = Catalogue.read(run.folder(refs, "catalogue"))
    histories = batch.of(Histories.read(run.folder(refs, "training") / "histories.parquet"), open_rows)
    given = {
        need.artefact: batch.of(Histories.read(run.folder(refs, need.artefact) / need.file), open_rows)
        for need in module.NEEDS
    }
    return ask(
        run,
        step,
        batch,
        inquiries(module, histories, given, known, run.config),
        module.ANSWERS,
        known,
        endpoint,
        progress,
    )


def ask(
    run: Run,
    step: str,
    batch: Batch,
    inquiries: Sequence[Inquiry],
    answers: Answers[Any],
    catalogue: Catalogue,
    endpoint: Endpoint,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Ask what the ledger cannot answer, write the users' rows and the batch's.

    Where a person has accepted that some of the batch's users stay without an answer, nothing is asked: answers in the
    ledger count, and the other users' rows say that they have none.

    Args:
        answers: what the step's are.

    Returns:
        What happened, small and JSON-ready: users, answered, calls, from_ledger, failed, tokens, cost, and what the
        answers come to (`Answers.counts`).

    Raises:
        Unanswered: more users than tolerated have no answer. What was answered is safe; a rerun asks only for the rest.
        EndpointFatal: the endpoint cannot be used until a person does something; here too, answers are safe.
        Waiting: the provider's Batch API is at work (mode "batch"); call again later.
        StorageError: Postgres is down.
    """
    warehouse, run_id, llm = run.warehouse, run.run_id, run.config.llm
    account = batches.Account(run_id, step, batch.batch)
    note = partial(batches.record, warehouse, account, batch.label, batch.users)
    accepted = acceptance.is_accepted(warehouse, run_id, step, batch.batch)
    note(Standing("running"))
    asked = [inquiry for inquiry in inquiries if inquiry.question is not None]
    questions = [inquiry.question for inquiry in asked if inquiry.question is not None]
    try:
        if accepted:
            outcomes = fanout.known(endpoint, questions, warehouse)
        else:
            usable = _UsableShare(endpoint, llm.least_usable, answers)
            answer = provider_batches.answer if llm.mode == "batch" else fanout.answer
            outcomes = answer(endpoint, questions, warehouse, progress, account=account, check=usable.count)
    except Waiting as waiting:
        note(Standing("running", message=str(waiting)))
        raise
    except LlmserError as error:
        note(Standing("failed", message=str(error)))
        raise
    failed = outcomes.unanswered
    tolerated = batch.users if accepted else llm.tolerated_failures * batch.users
    complaint = outcomes.complaint() if outcomes.fatal or failed > tolerated else None
    without = acceptance.MESSAGE.format(accepted=failed) if accepted and failed else None
    rows = [answers.row(inquiry, None, None) for inquiry in inquiries if inquiry.question is None]
    for inquiry, key, result in zip(asked, outcomes.keys, outcomes, strict=True):
        if complaint is None or not _is_open(result):
            rows.append(answers.row(inquiry, key, result))
    with transaction(warehouse) as connection:
        answers.write(connection, run_id, step, rows, catalogue)
    note(
        Standing(
            "done" if complaint is None and outcomes.fatal is None else "failed",
            answered=batch.users - failed,
            failed=failed,
            accepted=failed if accepted else 0,
            message=str(outcomes.fatal or complaint or without or "") or None,
        )
    )
    why = outcomes.fatal if complaint is None or outcomes.fatal is not None else Unanswered(complaint)
    if why is not None:
        why.users_without_answer = _without_answer(outcomes)
        raise why
    return {
        "users": batch.users,
        "answered": batch.users - failed,
        "failed": failed,
        "accepted": failed if accepted else 0,
        "distinct": outcomes.distinct,
        "from_ledger": outcomes.from_ledger,
        "calls": outcomes.calls,
        "prompt_tokens": outcomes.prompt_tokens,
        "completion_tokens": outcomes.completion_tokens,
        "cost": outcomes.cost,
        **answers.counts(rows),
    }


class _UsableShare:
    """Counts usable answers, and ends a batch early where there are too few: nonsense costs as much as good answers.

    So does the same text about everybody, of which the first alone counts.
    """

    def __init__(self, endpoint: Endpoint, least: float, answers: Answers[Any]) -> None:
        self._endpoint = endpoint
        self._least = least
        self._kind = answers
        self._answers = self._usable = self._repeated = 0
        self._said: set[bytes] = set()

    def count(self, answer: Answer) -> None:
        """
        Raises:
            Nonsense: too few of the answers so far are usable.
        """
        self._answers += 1
        again = answer.usable and self._kind.own and self._was_said(answer.content)
        self._repeated += again
        self._usable += answer.usable and not again
        if self._answers >= JUDGED_FROM and self._usable < self._least * self._answers:
            said = clean_title(answer.content, 120) or ""
            ended = clean_title(answer.finish_reason, 40) or "unknown"
            besides = " that was not said of others" if self._repeated else ""
            prune = f"llmser answers prune {'' if self._repeated else '--unusable '}--model {self._endpoint.model}"
            raise Nonsense(
                f"Only {self._usable} of {self._answers} answers of LLM endpoint {self._endpoint.name} (model "
                f"{self._endpoint.model}) {self._kind.say}{besides}, which is nonsense; one of them: “{said}” "
                f"(finish_reason {ended}). Choose another model; or, once it works, have it asked again (`{prune}`); "
                "or lower least_usable."
            )

    def _was_said(self, content: str) -> bool:
        """Of another question of this batch."""
        short = hashlib.sha256(content.encode()).digest()
        before = short in self._said
        self._said.add(short)
        return before


def _without_answer(outcomes: Outcomes) -> dict[str, int]:
    """Why → users that a rerun will ask; those whose turn never came have what ended the batch to blame."""
    ended_by = getattr(outcomes.fatal, "kind", None)
    kinds = (result.kind for result in outcomes if isinstance(result, Failure) and result.retriable)
    return dict(Counter(ended_by if ended_by and kind == Stopped.kind else kind for kind in kinds))


def _is_open(result: Answer | Failure) -> bool:
    """A rerun will ask again."""
    return isinstance(result, Failure) and result.retriable
