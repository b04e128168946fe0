"""How an endpoint wants to be asked, as any process found out (table `endpoint_dialects`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.warehouse.rows import storable_json

KEPT = "7 days"  # servers change

_LOAD = text("select dialect from endpoint_dialects where place = :place and updated_at > now() - (:kept)::interval")
_SAVE = text("""
    insert into endpoint_dialects (place, endpoint, model, dialect)
    values (:place, :endpoint, :model, cast(:dialect as jsonb))
    on conflict (place) do update set dialect = excluded.dialect, updated_at = now()
""")


def load(connection: Connection, place: str) -> Any:
    """What was noted of a place in the last days, as it stands there; None: nothing."""
    return connection.scalar(_LOAD, {"place": place, "kept": KEPT})


def save(connection: Connection, place: str, *, endpoint: str, model: str, dialect: Mapping[str, Any]) -> None:
    """Note what worked.

    Args:
        place: digest of all that goes with every request.
        endpoint: its URL.
    """
    values = {"place": place, "endpoint": endpoint, "model": model, "dialect": storable_json(dialect)}
    connection.execute(_SAVE, values)
