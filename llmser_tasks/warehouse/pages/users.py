"""Augmented users, a few at a time: history, pseudo items and where they came from, masked item, answers, ω, α; and
what a model wrote about each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.reading import Row, as_asked, rows
from llmser_tasks.warehouse.rows import storable

USERS_AT_ONCE = 10

SCORES = """
    select user_id, n, masked_item, masked_title, named_item, named_title, source, omega, alpha, reason
    from reliability where run_id = :run and {where} order by {order} limit :most
"""
Order = Literal["user", "most", "least"]
ORDERS: dict[Order, tuple[str, str]] = {
    "user": ("user_id", "user_id > :user"),
    "most": ("omega desc, user_id desc", "(omega, user_id) < (:omega, :user)"),
    "least": ("omega, user_id", "(omega, user_id) > (:omega, :user)"),
}
# Of a run that scores nobody: those about whom a model was to write.
WRITTEN = """
    select distinct user_id, null::integer as n, null as masked_item, null as masked_title, null as named_item,
           null as named_title, null as source, null::float8 as omega, null::float8 as alpha, null as reason
    from user_texts where run_id = :run and {where} order by user_id limit :most
"""
SCORED = "select from reliability where run_id = :run limit 1"
TEXTS = f"""
    select t.user_id, t.step, t.text, t.source, t.reason, coalesce(a.answered_by, a.model) as model
    from user_texts t left join answers a using (question_key)
    where t.run_id = :run and t.user_id = any(:users) order by {as_asked("t.step")}
"""  # noqa: S608, ours
PSEUDO = "select user_id, item_ids, titles, sources from pseudo_items where run_id = :run and user_id = any(:users)"
HISTORIES = (
    "select user_id, cardinality(item_ids) as length,"
    " item_ids[greatest(1, cardinality(item_ids) - 29):] as item_ids"  # the newest 30
    " from histories where run_id = :run and user_id = any(:users)"
)
TITLES = "select item_id, title, text from item_titles where run_id = :run and item_id = any(:items)"
ANSWERS = f"""
    select p.user_id, p.step, p.item_ids, p.sources, p.reason, p.invented, coalesce(a.answered_by, a.model) as model,
           left(a.content, 2000) as content, a.failure, a.created_at
    from picks p left join answers a using (question_key)
    where p.run_id = :run and p.step = any(:asking) and p.user_id = any(:users)
    order by {as_asked("p.step")}
"""  # noqa: S608, ours


def users(
    warehouse: Warehouse,
    run_id: str,
    *,
    order: Order = "user",
    after: tuple[float, str] | None = None,
    search: str | None = None,
) -> list[Row]:
    """The next USERS_AT_ONCE users that have been scored; of a run that scores nobody, those of its texts.

    Args:
        order: by id, or by ω, the most or the least trusted first; by id where nobody is scored.
        after: ω and id of the last user already shown.
        search: begin with this user id, or the next one that there is; then the order is by id.
    """
    run_id = storable(run_id)
    with transaction(warehouse) as connection:
        scored = bool(rows(connection, SCORED, run=run_id))
        columns, beyond = ORDERS[order if scored and not search else "user"]
        where, values = "true", dict[str, Any]()
        if after is not None:
            where, values = beyond, {"omega": after[0], "user": storable(after[1])}
        elif search:
            where, values = "user_id >= :user", {"user": storable(search)}
        found = rows(
            connection,
            (SCORES if scored else WRITTEN).format(where=where, order=columns),
            run=run_id,
            most=USERS_AT_ONCE,
            **_used(where, values),
        )
        _complete(connection, run_id, found)
    return found


def _used(where: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f":{name}" in where}


def _complete(connection: Connection, run_id: str, found: list[Row]) -> None:
    """Add to each user what the other tables know."""
    ids = [row["user_id"] for row in found]
    histories = {row["user_id"]: row for row in rows(connection, HISTORIES, run=run_id, users=ids)}
    pseudo = {row["user_id"]: row for row in rows(connection, PSEUDO, run=run_id, users=ids)}
    answers = rows(connection, ANSWERS, run=run_id, users=ids)
    texts = rows(connection, TEXTS, run=run_id, users=ids)
    wanted = {item for row in (*histories.values(), *pseudo.values()) for item in row["item_ids"]}
    known = {row["item_id"]: row for row in rows(connection, TITLES, run=run_id, items=list(wanted))}
    for row in found:
        history = histories.get(row["user_id"])
        added = pseudo.get(row["user_id"], {"item_ids": [], "titles": [], "sources": []})
        row["history"] = [_item(item, known) for item in history["item_ids"]] if history else []
        row["older"] = history["length"] - len(history["item_ids"]) if history else None
        row["pseudo"] = [
            _item(item, known) | {"title": title, "source": source}
            for item, title, source in zip(added["item_ids"], added["titles"], added["sources"], strict=True)
        ]
        row["texts"] = [text for text in texts if text["user_id"] == row["user_id"]]
        row["answers"] = [answer for answer in answers if answer["user_id"] == row["user_id"]]


def _item(item: str, known: Mapping[str, Row]) -> Row:
    """An item with its title and, where more describes it, its text."""
    found = known.get(item)
    if found is None:
        return {"item": item, "title": None}
    return {"item": item, "title": found["title"]} | ({"text": found["text"]} if found["text"] else {})
