"""What a question step is: what its questions are made of, whom it can ask, what it asks one user, and what its
answers are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.core.run import left_out
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.question import Answer, Question
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.retention import NO_USABLE_ANSWER
from llmser_tasks.warehouse.tables.answered import UNANSWERED


@dataclass(frozen=True)
class Inquiry:
    """What one user is asked, or why nothing is.

    Attributes:
        candidates: item ids in the order in which they were given to `build_question`.
        reason: why there is nothing to ask; None where there is a question.
    """

    user: int
    question: Question | None
    candidates: Sequence[int] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Need:
    """Items per training user that a question is made of, beside the history.

    Attributes:
        artefact, file: where they are.
        longest: how many a user has at most.
        like: the need whose first items stand in for these until they are made (`estimate`); None: there is none.
    """

    artefact: str
    file: str
    longest: Callable[[RunConfig], int]
    like: str | None = None


Row = TypeVar("Row")


class Answers(Protocol[Row]):
    """What a question step's answers are: each becomes one user's row in a table. `picks` and `user_texts` have one.

    Attributes:
        say: what a usable answer does, in words: "name a candidate".
        own: questions that differ have answers that differ; what was said of somebody else already is of no use.
    """

    say: str
    own: bool

    def obstacle(self, *, ranker: bool) -> str | None:
        """Why an endpoint cannot give such answers, and what to do; None: it can.

        Args:
            ranker: it is the embedded one, which is no LLM.
        """

    def row(self, inquiry: Inquiry, key: str | None, result: Answer | Failure | None) -> Row:
        """One user's row.

        Args:
            key: the ledger's; None where there was nothing to ask, as is `result`.
        """

    def write(self, connection: Connection, run_id: str, step: str, rows: Sequence[Row], catalogue: Catalogue) -> None:
        """Put these users' rows in place of what they had, within the caller's transaction."""

    def counts(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the rows come to, small and JSON-ready."""


class QuestionModule(Protocol):
    """What a question step's file has. It may also have `left_out(config)`: the part without which there is nothing to
    ask, where the run is without that, or None.

    Attributes:
        NEEDS: what its questions are made of.
        ANSWERS: what its answers are.
    """

    NEEDS: Sequence[Need]
    ANSWERS: Answers[Any]

    def may_be_asked(self, histories: Histories, titled: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(U,) whom it can ask about, as far as histories and titles decide it."""

    def inquire(
        self, user: int, history: Ints, given: Mapping[str, Ints], catalogue: Catalogue, config: RunConfig
    ) -> Inquiry:
        """One user's question.

        Args:
            history: S_u, oldest first.
            given: of each need's artefact the user's items.
        """


def any_titled(histories: Histories, titled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(U,) whether any item of a history has a title."""
    found = np.concatenate([[0], np.cumsum(titled[histories.items])])
    return np.asarray(found[histories.offsets[1:]] > found[histories.offsets[:-1]])


def why_none(inquiry: Inquiry, result: Answer | Failure | None) -> str | None:
    """Why a user has no usable answer; None: there is one."""
    if result is None:
        return inquiry.reason
    if isinstance(result, Failure):
        return f"{UNANSWERED}: {result.kind}" if result.retriable else result.kind
    return None if result.usable else NO_USABLE_ANSWER


def inquiries(
    module: QuestionModule,
    histories: Histories,
    given: Mapping[str, Iterable[Ints]],
    catalogue: Catalogue,
    config: RunConfig,
) -> list[Inquiry]:
    """A question step's questions about these users; `given` has a row of each need for every one of them."""
    nothing: Iterable[tuple[Ints, ...]] = [()] * len(histories)
    rows = zip(*given.values(), strict=True) if given else nothing
    return [
        module.inquire(int(user), history, dict(zip(given, own, strict=True)), catalogue, config)
        for user, history, own in zip(histories.users, histories, rows, strict=True)
    ]


def shuffle_seed(seed: int, step: str, history: Iterable[int], candidates: Iterable[int]) -> int:
    """Seed of the order in which candidates are shown: a user's own, and the same for users with the same question, so
    that these share one call."""
    basis = orjson.dumps([seed, step, list(map(int, history)), list(map(int, candidates))])
    return int.from_bytes(hashlib.sha256(basis).digest()[:6])


def asked_steps(config: RunConfig) -> list[str]:
    """The question steps that a run's methods need and that it does not leave out, in order."""
    asking = [name for name in config.chain if name in QUESTION_STEPS]
    return [name for name in asking if left_out(QUESTION_STEPS.load(name), config) is None]


def require_all(missing: int, users: int, run_id: str, step: str) -> None:
    """
    Raises:
        InputError: of these users some have no row yet.
    """
    if missing:
        raise InputError(
            f"{missing} of {users} users of run {run_id} have not been through {step} yet; "
            f"run (or clear) the {step} batches that are missing or failed, then this step."
        )


def unknown(run_id: str, step: str) -> InputError:
    return InputError(
        f"Run {run_id} holds answers of {step} for users or items that its catalogue does not know; "
        "the dump changed under it: start a new run."
    )
