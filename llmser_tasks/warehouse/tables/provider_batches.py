"""Batches at a provider's Batch API and the questions that they claim (`provider_batches`, `provider_questions`).

A row is *preparing*, then *submitted* (the provider's id is known), then *ended* (its answers are in the ledger).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables.batches import Account

ABANDONED = "1 hour"  # after which a batch of others that was never submitted holds its questions no longer

_COLUMNS = """
    run_id, step, batch, round, mark, state, input_file, provider_id, questions,
    extract(epoch from now() - coalesce(submitted_at, now()))::float8
"""
_OURS = text(f"""
    select {_COLUMNS} from provider_batches
    where (run_id, step, batch) = (:run_id, :step, :batch) and state <> 'ended' order by round
""")  # noqa: S608, ours
_OTHERS = text(f"""
    select {_COLUMNS} from provider_batches
    where mark in (select mark from provider_questions where question_key = any(:keys)) and endpoint = :endpoint
      and (state = 'submitted' or created_at < now() - cast(:abandoned as interval))
""")  # noqa: S608, ours
_ROUND = text("select count(*) + 1 from provider_batches where (run_id, step, batch) = (:run_id, :step, :batch)")
_INSERT = text("""
    insert into provider_batches (run_id, step, endpoint, batch, round, mark, state, questions)
    values (:run_id, :step, :endpoint, :batch, :round, :mark, 'preparing', 0)
""")
_CLAIM = text("""
    insert into provider_questions (question_key, prompt_version, mark)
    select key, version, :mark from unnest((:keys)::text[], (:versions)::text[]) as q (key, version) order by key
    on conflict do nothing returning question_key
""")
_PREPARED = text("update provider_batches set questions = :number, held = :most where mark = :mark")
_FORGET = text("delete from provider_batches where mark = :mark")
_UPLOADED = text("update provider_batches set input_file = :file where mark = :mark")
_SUBMITTED = text("""
    update provider_batches set provider_id = :id, state = 'submitted', submitted_at = now() where mark = :mark
""")
_RELEASE = text("delete from provider_questions where mark = :mark")
_ENDED = text("""
    update provider_batches set state = 'ended', held = 0, outcome = :said, ended_at = now() where mark = :mark
""")
_CLAIMED = text("select question_key, prompt_version from provider_questions where mark = :mark")


@dataclass(frozen=True)
class Submitted:
    """A row of `provider_batches`.

    Attributes:
        round: 1 for its account's first batch.
        mark: ours, by which the provider's own list knows it.
        questions: how many it claims.
        age: seconds since it was submitted.
    """

    run_id: str
    step: str
    batch: int
    round: int
    mark: str
    state: str
    input_file: str | None
    provider_id: str | None
    questions: int
    age: float

    @property
    def account(self) -> Account:
        return Account(self.run_id, self.step, self.batch)


def ours(warehouse: Warehouse, account: Account) -> list[Submitted]:
    """The account's batches that have not ended, the oldest first."""
    with transaction(warehouse) as connection:
        return [Submitted(*row) for row in connection.execute(_OURS, asdict(account))]


def others(warehouse: Warehouse, endpoint: str, keys: Collection[str]) -> list[Submitted]:
    """Batches at this endpoint (a URL) that hold any of these questions, and were submitted or ABANDONED before."""
    values = {"keys": list(keys), "endpoint": endpoint, "abandoned": ABANDONED}
    with transaction(warehouse) as connection:
        return [Submitted(*row) for row in connection.execute(_OTHERS, values)]


def begin(
    connection: Connection, account: Account, *, endpoint: str, mark: str, versions: Mapping[str, str]
) -> list[str]:
    """Note a batch to come, and claim the questions that no other open batch has.

    Args:
        endpoint: its URL.
        versions: question key → version of its prompt.

    Returns:
        The keys that were claimed; where there are none, no batch is noted.
    """
    number = connection.scalar(_ROUND, asdict(account))
    connection.execute(_INSERT, {**asdict(account), "endpoint": endpoint, "round": number, "mark": mark})
    values = {"mark": mark, "keys": list(versions), "versions": list(versions.values())}
    claimed = list(connection.scalars(_CLAIM, values))
    if not claimed:
        connection.execute(_FORGET, {"mark": mark})
    return claimed


def prepared(connection: Connection, mark: str, *, questions: int, held: float) -> None:
    """Note how many questions a batch has, and the money that is held for them."""
    connection.execute(_PREPARED, {"number": questions, "most": held, "mark": mark})


def uploaded(warehouse: Warehouse, mark: str, file: str) -> None:
    """Note the provider's name of the file that holds the questions."""
    with transaction(warehouse) as connection:
        connection.execute(_UPLOADED, {"mark": mark, "file": file})


def submitted(warehouse: Warehouse, mark: str, provider_id: str) -> None:
    """Note the provider's id of the batch."""
    with transaction(warehouse) as connection:
        connection.execute(_SUBMITTED, {"mark": mark, "id": provider_id})


def claimed(warehouse: Warehouse, mark: str) -> dict[str, str]:
    """Questions of a batch, and the versions of their prompts."""
    with transaction(warehouse) as connection:
        return {row[0]: row[1] for row in connection.execute(_CLAIMED, {"mark": mark})}


def ended(connection: Connection, mark: str, why: str) -> None:
    """Note that a batch is over, and let others ask its questions."""
    connection.execute(_RELEASE, {"mark": mark})
    connection.execute(_ENDED, {"mark": mark, "said": why})
