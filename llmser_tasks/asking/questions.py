"""What a question step is: what its questions are made of, whom it can ask, and what it asks one user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.core.run import left_out
from llmser_tasks.llm.prompts import Question
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories


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


class QuestionModule(Protocol):
    """What a question step's file has. It may also have `left_out(config)`: the part without which there is nothing to
    ask, where the run is without that, or None.

    Attributes:
        NEEDS: what its questions are made of.
    """

    NEEDS: Sequence[Need]

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
