"""When the next request may be sent to an endpoint, and until when it wants a pause (table `endpoint_limits`).

All times are seconds since 1970 by Postgres' clock, so that machines need not agree on theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

PAUSES = "llmser_pauses"  # channel on which one worker tells the others of a pause

_TAKE = text("""
    update endpoint_limits set
        requests_at = greatest(requests_at, blocked_until, extract(epoch from clock_timestamp())::float8)
                    + :requests * (:per_request)::float8,
        tokens_at   = greatest(tokens_at, blocked_until, extract(epoch from clock_timestamp())::float8)
                    + :tokens * (:per_token)::float8
    where endpoint = :endpoint
    returning requests_at, tokens_at, blocked_until, extract(epoch from clock_timestamp())::float8
""")
_CREATE = text("""
    insert into endpoint_limits (endpoint, blocked_until)
    values (:endpoint, :window + extract(epoch from case when :lost then clock_timestamp()
                                                         else pg_postmaster_start_time() end)::float8)
    on conflict do nothing
""")
_BLOCK = text("""
    insert into endpoint_limits as l (endpoint, blocked_until)
    values (:endpoint, extract(epoch from clock_timestamp())::float8 + :seconds)
    on conflict (endpoint) do update set blocked_until = greatest(l.blocked_until, excluded.blocked_until)
    returning pg_notify(:pauses, :call)
""")
_PAUSE = text("""
    select blocked_until - extract(epoch from clock_timestamp())::float8
    from endpoint_limits where endpoint = :endpoint
""")


@dataclass(frozen=True)
class Order:
    """Slots to take at once.

    Attributes:
        per_request, per_token: seconds that each takes up; 0: there is no such limit.
    """

    requests: int
    tokens: int
    per_request: float
    per_token: float


@dataclass(frozen=True)
class Slots:
    """What was taken.

    Attributes:
        requests_at, tokens_at: when the first free slot begins after those that were taken.
        blocked_until: end of the endpoint's pause.
        now: Postgres' time.
    """

    requests_at: float
    tokens_at: float
    blocked_until: float
    now: float


def take(connection: Connection, endpoint: str, order: Order) -> Slots | None:
    """Take slots for several requests by one statement; None where the endpoint has no row."""
    row = connection.execute(_TAKE, {"endpoint": endpoint, **asdict(order)}).first()
    return None if row is None else Slots(*row)


def create(connection: Connection, endpoint: str, *, window: float, lost: bool) -> None:
    """Give an endpoint its row, blocked for a window after Postgres started, because what was sent before is not known.

    Args:
        window: seconds.
        lost: there was a row a moment ago, so that Postgres crashed; the window then begins now.
    """
    connection.execute(_CREATE, {"endpoint": endpoint, "window": window, "lost": lost})


def block(connection: Connection, endpoint: str, seconds: float, call: str) -> None:
    """Let nobody ask an endpoint for so long, and call it out to all who listen to PAUSES."""
    connection.execute(_BLOCK, {"endpoint": endpoint, "seconds": seconds, "pauses": PAUSES, "call": call})


def pause(connection: Connection, endpoint: str) -> float:
    """Seconds that are left of an endpoint's pause; 0 or less where there is none."""
    return connection.execute(_PAUSE, {"endpoint": endpoint}).scalar() or 0.0
