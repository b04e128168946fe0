"""Looking at the ledger as a whole: which answers there are, and forgetting some of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, column, delete, exists, func, or_, select, table, text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.ledger import NEVER_ANSWERED, VECTOR
from llmser_tasks.warehouse.queries import Rows, stream

COLUMNS = ("question_key", "created_at", "model", "step", "prompt_version", "content", "failure", "cost")
ANSWERS = table("answers", *map(column, COLUMNS))
ANSWERED = table("answered", column("question_key"), column("reason"))
NO_USABLE_ANSWER = "no usable answer"  # why a user has nothing, where a reply said nothing of use


@dataclass(frozen=True)
class Selection:
    """Answers that meet all of these; what is left empty does not matter.

    Attributes:
        older_than: days since they came.
        failed: only questions that failed for good.
        unusable: only those in which nothing of use was found, and questions that the endpoint never answered at all.
        unused: only those that no run refers to any more; vectors of texts are none of them, for the next run needs
            them and none refers to them.
    """

    older_than: int | None = None
    model: str | None = None
    step: str | None = None
    prompt_version: str | None = None
    failed: bool = False
    unusable: bool = False
    unused: bool = False

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        answers = ANSWERS.c
        if self.older_than is not None:
            yield answers.created_at < func.now() - func.make_interval(0, 0, 0, self.older_than)
        for name in ("model", "step", "prompt_version"):
            if (wanted := getattr(self, name)) is not None:
                yield answers[name] == wanted
        if self.failed:
            yield answers.content.is_(None)
        if self.unusable:
            of_no_use = ANSWERED.c.reason == NO_USABLE_ANSWER
            in_vain = exists().where(ANSWERED.c.question_key == answers.question_key, of_no_use)
            yield or_(in_vain, answers.content.op("!~")(r"\S"), answers.failure == NEVER_ANSWERED)
        if self.unused:
            yield ~exists().where(ANSWERED.c.question_key == answers.question_key)
            yield answers.prompt_version != VECTOR


@contextmanager
def read(warehouse: Warehouse, selection: Selection) -> Iterator[Rows]:
    """Stream these rows, the oldest first."""
    order = (ANSWERS.c.created_at, ANSWERS.c.question_key)
    statement = select(text("*")).select_from(ANSWERS).where(*selection.conditions()).order_by(*order)
    with stream(warehouse, statement) as rows:
        yield rows


def count(warehouse: Warehouse, selection: Selection) -> tuple[int, float]:
    """How many there are, and what they cost as far as that is known."""
    statement = select(func.count(), func.coalesce(func.sum(ANSWERS.c.cost), 0.0)).select_from(ANSWERS)
    with transaction(warehouse) as connection:
        number, cost = connection.execute(statement.where(*selection.conditions())).one()
    return int(number), float(cost)


def prune(warehouse: Warehouse, selection: Selection) -> int:
    """Delete them: asking the same again costs again. Returns how many there were.

    Raises:
        InputError: nothing was selected, which would mean everything.
    """
    if selection == Selection():
        raise InputError(
            "Say which answers to forget: by age, model, step, prompt version, failed, unusable or unused."
        )
    with transaction(warehouse) as connection:
        return connection.execute(delete(ANSWERS).where(*selection.conditions())).rowcount
