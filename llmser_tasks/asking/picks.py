"""Picks: what was made of each user's answer, kept in Postgres per run and user (table `picks`)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from llmser_tasks.asking.questions import Answers, Inquiry, require_all, unknown, why_none
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.llm.answers import PickAnswer
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.llm.question import Answer
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import Connection
from llmser_tasks.warehouse.tables import picks as table
from llmser_tasks.warehouse.tables.picks import NewPickRow


@dataclass(frozen=True)
class Pick:
    """One user's row.

    Attributes:
        question_key: the ledger's; None where there was nothing to ask.
        items: item ids, likeliest first.
        sources: per item how it was read from the answer.
        reason: why there are no items.
        invented: how many things the answer named that are no candidates.
    """

    user: int
    question_key: str | None
    shuffle_seed: int | None
    items: Sequence[int]
    sources: Sequence[str]
    reason: str | None
    invented: int = 0


class _Answers:
    """Answers that name candidates of their question."""

    say = "name a candidate"
    own = False

    def obstacle(self, *, ranker: bool) -> None:
        del ranker  # ranking is what it does

    def row(self, inquiry: Inquiry, key: str | None, result: Answer | Failure | None) -> Pick:
        question, reason = inquiry.question, why_none(inquiry, result)
        if not isinstance(question, PickQuestion):
            return Pick(inquiry.user, None, None, (), (), reason)
        if not isinstance(result, PickAnswer):
            return Pick(inquiry.user, key, question.shuffle_seed, (), (), reason)
        return Pick(
            inquiry.user,
            key,
            question.shuffle_seed,
            [inquiry.candidates[question.order[one.index]] for one in result.chosen],
            [one.source for one in result.chosen],
            reason,
            result.invented,
        )

    def write(self, connection: Connection, run_id: str, step: str, rows: Sequence[Pick], catalogue: Catalogue) -> None:
        user_ids = catalogue.user_ids_of([pick.user for pick in rows])
        written = (
            NewPickRow(
                user_id=user_id,
                item_ids=catalogue.item_ids_of(pick.items),
                sources=pick.sources,
                reason=pick.reason,
                question_key=pick.question_key,
                shuffle_seed=pick.shuffle_seed,
                invented=pick.invented,
            )
            for user_id, pick in zip(user_ids, rows, strict=True)
        )
        table.write(connection, run_id, step, written)

    def counts(self, rows: Sequence[Pick]) -> dict[str, Any]:
        return {
            "picks": sum(len(pick.items) for pick in rows),
            "without_picks": dict(Counter(pick.reason for pick in rows if pick.reason)),
            "sources": dict(Counter(source for pick in rows for source in pick.sources)),
        }


PICKS: Answers[Pick] = _Answers()


@dataclass(frozen=True)
class Picks:
    """All picks of a run's step.

    Attributes:
        chosen: items per user, likeliest first; only users that were asked or could not be.
        sources: (Σ items,) per item, in the same order.
        reasons: (U,) why a user has none.
    """

    step: str
    run_id: str
    chosen: Histories
    sources: NDArray[np.object_]
    reasons: NDArray[np.object_]

    @classmethod
    def of_run(cls, run: Run, refs: Refs, step: str) -> Picks:
        return cls.read(run.warehouse, run.run_id, step, Catalogue.of_run(run, refs))

    @classmethod
    def read(cls, warehouse: Warehouse, run_id: str, step: str, catalogue: Catalogue) -> Picks:
        rows = table.read(warehouse, run_id, step)
        users = catalogue.users_of([row.user_id for row in rows])
        items = catalogue.items_of([item_id for row in rows for item_id in row.item_ids])
        if (users < 0).any() or (items < 1).any():
            raise unknown(run_id, step)
        lengths = [len(row.item_ids) for row in rows]
        ends = np.cumsum([0, *lengths])
        chosen = Histories.of(users, [items[ends[i] : ends[i + 1]] for i in range(len(rows))])
        order = np.argsort(users, kind="stable")
        return cls(
            step=step,
            run_id=run_id,
            chosen=chosen,
            sources=np.array([source for i in order for source in rows[i].sources], object),
            reasons=np.array([rows[i].reason for i in order], object),
        )

    def of(self, user: int) -> tuple[list[int], list[str], str | None]:
        """Items likeliest first, their sources, and why there are none."""
        row = int(self.chosen.rows_of(np.array([user], np.int32))[0])
        if row < 0:
            return [], [], None
        start, end = self.chosen.offsets[row], self.chosen.offsets[row + 1]
        return self.chosen[row].tolist(), self.sources[start:end].tolist(), self.reasons[row]

    def likeliest(self, users: NDArray[np.int32]) -> tuple[Ints, NDArray[np.object_], NDArray[np.object_]]:
        """Of each user (U,) the likeliest item, 0 where there is none; its source; and why there is none.

        Raises:
            InputError: one of these users has no row yet.
        """
        self.require(users)
        rows = self.chosen.rows_of(users)
        some = self.chosen.lengths[rows] > 0
        first = self.chosen.offsets[rows[some]]
        items, sources = np.zeros(len(users), np.int32), np.full(len(users), None, object)
        items[some], sources[some] = self.chosen.items[first], self.sources[first]
        reasons = self.reasons[rows]
        reasons[some] = None
        return items, sources, reasons

    def require(self, users: NDArray[np.int32]) -> None:
        """
        Raises:
            InputError: one of these users has no row yet.
        """
        require_all(int((self.chosen.rows_of(users) < 0).sum()), len(users), self.run_id, self.step)

    def content(self) -> str:
        """sha256 over what the picks say, so that a step that reads them reruns only where they changed."""
        hashed = hashlib.sha256()
        for part in (self.chosen.users, self.chosen.offsets, self.chosen.items):
            hashed.update(np.ascontiguousarray(part).tobytes())
        hashed.update(orjson.dumps([self.sources.tolist(), self.reasons.tolist()]))
        return hashed.hexdigest()
