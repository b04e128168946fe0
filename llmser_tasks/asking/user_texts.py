"""Texts: what a model wrote about each user, kept in Postgres per run and user (table `user_texts`)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from llmser_tasks.asking.questions import Inquiry, require_all, unknown, why_none
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.llm.free_text import TextAnswer
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.question import Answer
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.tables import user_texts as table
from llmser_tasks.warehouse.tables.user_texts import NewTextRow


@dataclass(frozen=True)
class UserText:
    """One user's row.

    Attributes:
        question_key: the ledger's; None where there was nothing to ask.
        text: None where nothing usable was written.
        source: how it was read from the answer.
        reason: why there is no text.
    """

    user: int
    question_key: str | None
    text: str | None
    source: str | None
    reason: str | None


class TextAnswers:
    """Answers in a model's own words."""

    say = "say anything of anybody"
    own = True

    def __init__(self, otherwise: str) -> None:
        """
        Args:
            otherwise: what to do where nobody can write, in words: "set … to …".
        """
        self._otherwise = otherwise

    def obstacle(self, *, ranker: bool) -> str | None:
        return f"The embedded ranker writes no text; name an endpoint or {self._otherwise}." if ranker else None

    def row(self, inquiry: Inquiry, key: str | None, result: Answer | Failure | None) -> UserText:
        reason = why_none(inquiry, result)
        if not isinstance(result, TextAnswer):
            return UserText(inquiry.user, key, None, None, reason)
        return UserText(inquiry.user, key, result.text or None, result.source, reason)

    def write(
        self, connection: Connection, run_id: str, step: str, rows: Sequence[UserText], catalogue: Catalogue
    ) -> None:
        user_ids = catalogue.user_ids_of([row.user for row in rows])
        written = (
            NewTextRow(user_id, row.question_key, row.text, row.source, row.reason)
            for user_id, row in zip(user_ids, rows, strict=True)
        )
        table.write(connection, run_id, step, written)

    def counts(self, rows: Sequence[UserText]) -> dict[str, Any]:
        return {
            "texts": sum(row.text is not None for row in rows),
            "without_text": dict(Counter(row.reason for row in rows if row.reason)),
            "sources": dict(Counter(row.source for row in rows if row.source)),
        }


@dataclass(frozen=True)
class UserTexts:
    """All texts of a run's step.

    Attributes:
        users: (U,) ascending; only users that were asked or could not be.
        texts: (U,) None where there is none.
        reasons: (U,) why there is none.
    """

    step: str
    run_id: str
    users: NDArray[np.int32]
    texts: list[str | None]
    reasons: list[str | None]

    @classmethod
    def of_run(cls, run: Run, refs: Refs, step: str) -> UserTexts:
        """
        Raises:
            InputError: there are rows of users that the catalogue does not know.
        """
        rows = table.read(run.warehouse, run.run_id, step)
        users = Catalogue.of_run(run, refs).users_of([row.user_id for row in rows])
        if (users < 0).any():
            raise unknown(run.run_id, step)
        order = np.argsort(users, kind="stable")
        found = [rows[i] for i in order]
        return cls(step, run.run_id, users[order], [row.text for row in found], [row.reason for row in found])

    def of(self, users: NDArray[np.int32]) -> tuple[list[str | None], list[str | None]]:
        """These users' texts, and why they have none.

        Raises:
            InputError: one of them has no row yet.
        """
        rows = np.searchsorted(self.users, users)
        there = np.zeros(len(users), bool)
        inside = rows < len(self.users)
        there[inside] = self.users[rows[inside]] == users[inside]
        require_all(int((~there).sum()), len(users), self.run_id, self.step)
        return [self.texts[row] for row in rows], [self.reasons[row] for row in rows]

    def content(self) -> str:
        """sha256 over what the texts say, so that a step that reads them reruns only where they changed."""
        hashed = hashlib.sha256(np.ascontiguousarray(self.users).tobytes())
        hashed.update(orjson.dumps([self.texts, self.reasons]))
        return hashed.hexdigest()
