"""What each batch of users cost at the LLM, over all attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable

# What is said of a batch: how it stands, and, where it goes on without some of its users, why it had failed.
TOLD = (
    "case when cause is null or cause = message then message"
    " else concat_ws(' ', message, 'It had failed: ' || cause) end"
)


@dataclass(frozen=True)
class Account:
    """The batch that pays: a row of `batches`."""

    run_id: str
    step: str
    batch: int


@dataclass(frozen=True)
class Standing:
    """How a batch stands; it replaces what stood there.

    Attributes:
        answered, failed: users.
        accepted: of the failed, those that the run goes on without (see `acceptance`).
        message: why it failed, or what it waits for.
    """

    state: Literal["running", "done", "failed"]
    answered: int = 0
    failed: int = 0
    accepted: int = 0
    message: str | None = None


class Paid(Protocol):
    """What `Meter` needs of an answer: what it used, and what that cost; None where nobody knows."""

    @property
    def prompt_tokens(self) -> int | None: ...

    @property
    def completion_tokens(self) -> int | None: ...

    @property
    def cost(self) -> float | None: ...


@dataclass(frozen=True)
class Bill:
    """What a batch has cost so far, over all attempts, and how many users it left without an answer."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    failed: int = 0
    accepted: int = 0


@dataclass
class Meter:
    """What requests of a batch used so far, and how much of that Postgres has.

    One thread counts while another writes: each counter has one writer, and what is on disk is counted apart. What an
    answer cost is written with the answer; until then it stays held.

    Attributes:
        calls: requests sent.
        lost: what requests cost that brought no answer, or may have cost at most where that is not known.
    """

    account: Account
    calls: int = 0
    lost: float = 0.0
    _written: tuple[int, float] = field(default=(0, 0.0), init=False)

    def write(self, connection: Connection, answers: Sequence[Paid] = ()) -> tuple[int, float]:
        """Add what is new, and what these answers cost, to the batch, out of what it holds.

        Returns:
            What to call `written` with after the commit.
        """
        now = (self.calls, self.lost)
        calls, lost = now[0] - self._written[0], now[1] - self._written[1]
        prices = [answer.cost for answer in answers if answer.cost is not None]
        connection.execute(
            text(
                """
                update batches set
                    calls = calls + :calls, lost = lost + :lost, held = greatest(0, held - :lost - :cost),
                    prompt_tokens = prompt_tokens + :prompt_tokens,
                    completion_tokens = completion_tokens + :completion_tokens,
                    cost = case when :priced then coalesce(cost, 0) + :cost else cost end,
                    updated_at = now()
                where run_id = :run and step = :step and batch = :batch
                """
            ),
            {
                "run": self.account.run_id,
                "step": self.account.step,
                "batch": self.account.batch,
                "calls": calls,
                "lost": lost,
                "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
                "completion_tokens": sum(answer.completion_tokens or 0 for answer in answers),
                "priced": bool(prices),
                "cost": sum(prices),
            },
        )
        return now

    @property
    def unwritten(self) -> bool:
        return (self.calls, self.lost) != self._written

    def written(self, now: tuple[int, float]) -> None:
        self._written = now


def record(warehouse: Warehouse, account: Account, label: str, users: int, standing: Standing) -> None:
    """Write how an attempt of a batch stands; what it spends is added by its `Meter`, with the answers.

    Args:
        label: what people call the batch.
        users: how many it has.
    """
    with transaction(warehouse) as connection:
        connection.execute(
            text(
                """
                insert into batches
                    (run_id, step, batch, label, users, answered, failed, accepted, state, message, cause)
                values
                    (:run_id, :step, :batch, :label, :users, :answered, :failed, :accepted, :state, :message,
                     case when :state = 'failed' then :message end)
                on conflict (run_id, step, batch) do update set
                    label = excluded.label, users = excluded.users, answered = excluded.answered,
                    failed = excluded.failed, accepted = excluded.accepted, state = excluded.state,
                    message = excluded.message, updated_at = now(), held = 0, owner = null,
                    cause = case when excluded.state = 'failed' then excluded.message
                                 when excluded.state = 'done' and excluded.accepted = 0 then null
                                 else batches.cause end
                """
            ),
            {
                **asdict(account),
                "label": label,
                "users": users,
                **asdict(standing),
                "message": None if standing.message is None else storable(standing.message),
            },
        )


def record_unasked(warehouse: Warehouse, run_id: str, step: str, batch: int, label: str, users: int) -> None:
    """Write that a batch failed because one before it did; what is known of an earlier attempt stays."""
    with transaction(warehouse) as connection:
        connection.execute(
            text(
                """
                insert into batches (run_id, step, batch, label, users, failed, state, message)
                values (:run, :step, :batch, :label, :users, :users, 'failed', 'Not asked: a batch before it failed.')
                on conflict do nothing
                """
            ),
            {"run": run_id, "step": step, "batch": batch, "label": label, "users": users},
        )


def bill(warehouse: Warehouse, account: Account) -> Bill:
    """What a batch has cost; nothing where it never ran."""
    query = text(
        "select calls, prompt_tokens, completion_tokens, coalesce(cost, 0), failed, accepted from batches"
        " where (run_id, step, batch) = (:run_id, :step, :batch)"
    )
    with transaction(warehouse) as connection:
        row = connection.execute(query, asdict(account)).one_or_none()
    return Bill(*row) if row else Bill()
