"""How long steps took in the runs so far."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from llmser_tasks.core.config import BEFORE_THERE_WAS
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction

MOST = 20_000  # rows: more tell nothing new


@dataclass(frozen=True)
class Took:
    """A step of a run that came to its end.

    Attributes:
        config: of its run, flat names.
        unchanged: its result was there, so that the time says nothing.
        interactions: that the run trained on; None where that is not known.
        finished: the run has succeeded.
    """

    run_id: str
    config: dict[str, Any]
    step: str
    part: str
    unchanged: bool
    seconds: float
    interactions: int | None
    finished: bool


def of_steps(warehouse: Warehouse, steps: Collection[str]) -> list[Took]:
    """These steps in all runs, the newest first."""
    with transaction(warehouse) as connection:
        rows = connection.execute(
            text(
                "select s.run_id, r.config, s.step, s.part, s.state = 'unchanged',"
                " extract(epoch from s.finished_at - s.started_at)::float8,"
                " (q.summary #>> '{training,interactions}')::bigint, r.state = 'succeeded'"
                " from steps s join runs r using (run_id)"
                " left join steps q on q.run_id = s.run_id and q.step = 'sequences' and q.part = ''"
                " where s.step = any(:steps) and s.state in ('done', 'unchanged') and s.finished_at is not null"
                " order by s.started_at desc limit :most"
            ),
            {"steps": list(steps), "most": MOST},
        )
        return [Took(row[0], {**BEFORE_THERE_WAS, **row[1]}, *row[2:]) for row in rows]
