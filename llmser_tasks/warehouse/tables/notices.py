"""What people have to be told of a run: a row that stands until everybody has been told, whoever is killed meanwhile.

The row is written in the transaction that records what happened, so neither is there without the other. Whoever tells
it holds it by the row's owner, who lives as long as its advisory lock: of several, one tells. Each receiver is noted
before (`telling`) and after (`told`). Nobody who stands in `told` is told again. Where the one that told was killed
between the two, nobody can know whether the message went out: it is told once more, under the same id, and says that it
may have been told before. Lost would be worse than twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.liveness import LOCKS, living
from llmser_tasks.warehouse.rows import storable

log = logging.getLogger(__name__)

MOST_TRIES = 10  # for a receiver that cannot be told; they are a minute apart

_OPEN = "sent_at is null and (owner is null or not owner_lives(:locks, owner))"
_PENDING = text(f"select exists (select from notices where {_OPEN})")  # noqa: S608, ours
_TAKE = text(f"""
    update notices set owner = :owner, tries = tries + 1
    where (run_id, event, occasion) = (
        select run_id, event, occasion from notices
        where {_OPEN} and (run_id, event, occasion) not in
            (select * from unnest(cast(:runs as text[]), cast(:events as text[]), cast(:occasions as text[])))
        order by made_at limit 1 for update skip locked
    )
    returning run_id, event, occasion, dataset, sentence, remedy, tries, telling, told
""")  # noqa: S608, ours


@dataclass(frozen=True)
class Notice:
    """What happened, for people.

    Attributes:
        telling: who may have been told by somebody who was killed over it.
        told: who has been.
    """

    run_id: str
    event: str
    occasion: str
    dataset: str
    sentence: str
    then: str
    tries: int = 0
    telling: str | None = None
    told: Sequence[str] = ()

    @property
    def key(self) -> str:
        """The same whenever this is told, so that a receiver can leave out what it has."""
        return hashlib.sha256("\0".join((self.run_id, self.event, self.occasion)).encode()).hexdigest()[:16]


def add(connection: Connection, notice: Notice) -> None:
    """Have it told once, however often it is added."""
    connection.execute(
        text(
            "insert into notices (run_id, event, occasion, dataset, sentence, remedy)"
            " values (:run, :event, :occasion, :dataset, :sentence, :then) on conflict do nothing"
        ),
        {
            "run": storable(notice.run_id),
            "event": notice.event,
            "occasion": storable(notice.occasion),
            "dataset": storable(notice.dataset),
            "sentence": storable(notice.sentence),
            "then": storable(notice.then),
        },
    )


def deliver(
    warehouse: Warehouse, receivers: Callable[[], Sequence[str]], tell: Callable[[str, Notice, bool], bool]
) -> int:
    """Tell all that is open and that nobody else is telling; returns how many notices are over now.

    Args:
        receivers: names of those who are to be told; asked only where there is something.
        tell: tells one of them, given whether it may have been told before; returns whether that went well.
    """
    with transaction(warehouse) as connection:
        if not connection.scalar(_PENDING, {"locks": LOCKS}):
            return 0
    over = 0
    with living(warehouse) as owner:
        for notice in _taken(warehouse, owner):
            over += _tell(warehouse, notice, receivers(), tell)
    return over


def _taken(warehouse: Warehouse, owner: int) -> Iterator[Notice]:
    """One open notice after the other, each once."""
    seen: list[Notice] = []
    while True:
        with transaction(warehouse) as connection:
            row = connection.execute(
                _TAKE,
                {
                    "owner": owner,
                    "locks": LOCKS,
                    "runs": [notice.run_id for notice in seen],
                    "events": [notice.event for notice in seen],
                    "occasions": [notice.occasion for notice in seen],
                },
            ).one_or_none()
        if row is None:
            return
        seen.append(Notice(*row))
        yield seen[-1]


def _tell(
    warehouse: Warehouse, notice: Notice, receivers: Sequence[str], tell: Callable[[str, Notice, bool], bool]
) -> bool:
    whole = True
    for receiver in receivers:
        if receiver in notice.told:
            continue
        _note(warehouse, notice, "telling = :receiver", receiver)
        if tell(receiver, notice, receiver == notice.telling):
            _note(warehouse, notice, "telling = null, told = told || cast(:receiver as text)", receiver)
        else:
            _note(warehouse, notice, "telling = null", receiver)
            whole = False
    if not whole and notice.tries < MOST_TRIES:
        _note(warehouse, notice, "owner = null", "")
        return False
    _note(warehouse, notice, "owner = null, sent_at = now()", "")
    return True


def _note(warehouse: Warehouse, notice: Notice, change: str, receiver: str) -> None:
    with transaction(warehouse) as connection:
        connection.execute(
            text(f"update notices set {change} where (run_id, event, occasion) = (:run, :event, :occasion)"),  # noqa: S608
            {"run": notice.run_id, "event": notice.event, "occasion": notice.occasion}
            | ({"receiver": receiver} if ":receiver" in change else {}),
        )
