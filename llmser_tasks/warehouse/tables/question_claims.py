"""Which batch is asking which question right now (table `claims`).

A claim names its owner, and the owner lives as long as its connection holds an advisory lock: a killed worker's claims
are free as soon as Postgres notices.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

LOCKS = 0x4C4C4D  # class of the advisory locks by which batches are seen to live

_LIVE = text("select pg_advisory_lock(:locks, :owner)")
_TAKE = text("""
    insert into claims as c (question_key, owner)
    select key, :owner from unnest((:keys)::text[]) as key order by key
    on conflict (question_key) do update set owner = excluded.owner
        where pg_try_advisory_xact_lock(:locks, c.owner) -- ours, or nobody's any more
    returning question_key
""")
_RELEASE = text("delete from claims where question_key = any(:keys) and owner = :owner")
_LEAVE = text("delete from claims where owner = :owner")


def live(connection: Connection, owner: int) -> None:
    """From now on, and as long as this connection lasts, the owner is seen to live."""
    connection.execute(_LIVE, {"locks": LOCKS, "owner": owner})


def take(connection: Connection, owner: int, keys: Collection[str]) -> set[str]:
    """Claim what is free of these questions; returns those that are the owner's now."""
    return set(connection.scalars(_TAKE, {"keys": list(keys), "owner": owner, "locks": LOCKS}))


def release(connection: Connection, owner: int, keys: Collection[str]) -> None:
    """Let others ask these."""
    connection.execute(_RELEASE, {"keys": list(keys), "owner": owner})


def leave(connection: Connection, owner: int) -> None:
    """Let others ask all that the owner has claimed."""
    connection.execute(_LEAVE, {"owner": owner})
