"""Which share of an endpoint's concurrency each worker has (table `endpoint_workers`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from llmser_tasks.warehouse.tables.question_claims import LOCKS

_ALONE = text("select pg_advisory_xact_lock(:locks, hashtext(:endpoint))")
_FORGET_DEAD = text("delete from endpoint_workers where endpoint = :endpoint and not owner_lives(:locks, owner)")
_OTHERS = text("select owner, wanted, granted from endpoint_workers where endpoint = :endpoint and owner <> :owner")
_LEASE = text("""
    insert into endpoint_workers (endpoint, owner, wanted, granted) values (:endpoint, :owner, :wanted, :granted)
    on conflict (endpoint, owner) do update set wanted = excluded.wanted, granted = excluded.granted
""")
_LEAVE = text("delete from endpoint_workers where endpoint = :endpoint and owner = :owner")


@dataclass(frozen=True)
class Lease:
    """One worker's share.

    Attributes:
        owner: number of the advisory lock by which it is seen to live.
        wanted: requests that it could have in flight.
        granted: requests that it may have in flight.
    """

    owner: int
    wanted: int
    granted: int


def others(connection: Connection, endpoint: str, owner: int) -> list[Lease]:
    """The leases of all workers that live, but for this one. Until the transaction ends, nobody else looks or leases.

    Args:
        endpoint: its URL.
    """
    connection.execute(_ALONE, {"locks": LOCKS + 1, "endpoint": endpoint})
    connection.execute(_FORGET_DEAD, {"locks": LOCKS, "endpoint": endpoint})
    return [Lease(*row) for row in connection.execute(_OTHERS, {"endpoint": endpoint, "owner": owner})]


def lease(connection: Connection, endpoint: str, share: Lease) -> None:
    """Write down a worker's share in place of what it had."""
    connection.execute(_LEASE, {"endpoint": endpoint, **asdict(share)})


def leave(connection: Connection, endpoint: str, owner: int) -> None:
    """The worker has stopped asking."""
    connection.execute(_LEAVE, {"endpoint": endpoint, "owner": owner})
