"""How many providers' batches brought no answer to a question (table `unanswered_questions`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

_COUNT = text("""
    with counted as (
        insert into unanswered_questions as u (question_key)
        select question_key from provider_questions where mark = :mark and question_key = any(:keys) order by 1
        on conflict (question_key) do update set times = u.times + 1, updated_at = now()
        returning question_key, times
    )
    select question_key, prompt_version, step, times
    from counted join provider_questions using (question_key) join provider_batches using (mark)
""")
_SETTLED = text("delete from unanswered_questions where question_key = any(:keys)")


@dataclass(frozen=True)
class Unanswered:
    """A question, and how often it was asked in vain, the last time included."""

    key: str
    prompt_version: str
    step: str
    times: int


def count(connection: Connection, mark: str, keys: Collection[str]) -> list[Unanswered]:
    """Count that the batch of this mark brought no answer to these questions of it."""
    return [Unanswered(*row) for row in connection.execute(_COUNT, {"keys": list(keys), "mark": mark})]


def settled(connection: Connection, keys: Collection[str]) -> None:
    """Forget the count of these."""
    connection.execute(_SETTLED, {"keys": list(keys)})
