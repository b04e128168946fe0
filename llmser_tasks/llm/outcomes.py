"""What became of questions: each one's answer, or why it has none. Here a row of the ledger becomes an `Answer`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmser_tasks.core.errors import LlmserError
from llmser_tasks.llm.errors import NeverAnswered
from llmser_tasks.llm.question import Answer, Question
from llmser_tasks.warehouse.ledger import Entry

Check = Callable[[Answer], None]


@dataclass(frozen=True)
class Failure:
    """No answer. `retriable`: a rerun asks again; otherwise the ledger holds the failure and nobody will."""

    kind: str  # "timeout", "rate limit", "content-filter", …: see llm.errors
    retriable: bool
    message: str


def read(entry: Entry, question: Question) -> Answer | Failure:
    """What a row of the ledger says to its question."""
    if entry.content is not None:
        return question.read(entry.content, entry.finish_reason)
    kind = entry.failure or "failed"
    if kind == NeverAnswered.kind:
        said = "The endpoint answered this question with nothing several times, while it answered others."
        return Failure(kind, False, said)
    return Failure(kind, False, f"The endpoint refuses this question for good ({kind}).")


@dataclass(frozen=True)
class Outcomes:
    """What became of each question, in the order asked, and what this call cost.

    Attributes:
        keys: the ledger's, of each question.
        distinct: different questions among them.
        from_ledger: distinct questions that were settled before, or by others meanwhile.
        asked: distinct questions that were sent, answered or not.
        calls: requests sent, retries included.
        prompt_tokens, completion_tokens: as far as the endpoint reported them.
        cost: None where no price is known.
        stopped: why the batch was given up early, in one sentence; None where it was not.
        fatal: the error behind that, where a person has to act (EndpointFatal) or Postgres is down (StorageError).
    """

    keys: tuple[str, ...]
    results: tuple[Answer | Failure, ...]
    distinct: int
    from_ledger: int
    asked: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    stopped: str | None = None
    fatal: LlmserError | None = None

    def __iter__(self) -> Iterator[Answer | Failure]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def unanswered(self) -> int:
        """Questions that a rerun will ask."""
        return sum(isinstance(r, Failure) and r.retriable for r in self.results)

    def complaint(self) -> str | None:
        """Why questions stay unanswered, in a sentence or two; None where a rerun has nothing to do."""
        kinds = Counter(r.kind for r in self.results if isinstance(r, Failure) and r.retriable)
        if not kinds:
            return None
        counted = ", ".join(f"{number} × {kind}" for kind, number in kinds.most_common())
        sample = next(
            r.message for r in self.results if isinstance(r, Failure) and r.kind == kinds.most_common(1)[0][0]
        )
        return (
            f"{kinds.total()} of {len(self.results)} unanswered: {counted}; a rerun asks only for these. "
            f"{self.stopped or sample}"
        )
