"""Studies and their cells. How far a cell is stands in the row of its run, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks.core.cells import Cell
from llmser_tasks.core.config import BEFORE_THERE_WAS, to_flat
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.study import Study
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows, storable, storable_json

OPEN = "open"  # state of a cell that has not begun
COLUMNS = (
    "study", "run_id", "place", "part", "dataset", "backbone", "method", "seed", "changed", "settings", "wanted",
)  # fmt: skip

# What became of each cell: the state and message of its run, or why it has none.
STATES = """
    select c.study, c.run_id, c.place, c.part, c.dataset, c.backbone, c.method, c.seed, c.changed, c.wanted,
           coalesce(run_state(r.state, r.owner), case when c.message is null then 'open' else 'failed' end) as state,
           coalesce(run_message(r.state, r.owner, r.message), c.message) as message,
           r.started_at, r.finished_at
    from study_cells c left join runs r using (run_id)
"""


@dataclass(frozen=True)
class Standing:
    """How far a cell is.

    Attributes:
        state: open, or that of its run: running, succeeded, failed, interrupted.
    """

    run_id: str
    state: str
    message: str | None


def note(warehouse: Warehouse, study: Study, cells: Sequence[Cell]) -> None:
    """Note the study with these cells. Cells from before that it no longer has stay if they have begun.

    Raises:
        InputError: a cell has begun with other settings than the file now says.
    """
    settings = {cell.run_id: to_flat(cell.config) for cell in cells}
    with transaction(warehouse) as connection:
        _only_one(connection, study.name)
        _refuse_contradictions(connection, study, cells, settings)
        asked = storable_json(study.asked.model_dump(mode="json"))
        connection.execute(
            text(
                "insert into studies (study, title, asked) values (:study, :title, cast(:asked as jsonb))"
                " on conflict (study) do update set title = excluded.title, asked = excluded.asked, changed_at = now()"
                " where studies.asked <> excluded.asked"
            ),
            {"study": study.name, "title": storable(study.asked.title), "asked": asked},
        )
        connection.execute(
            text(
                "delete from study_cells c where study = :study"
                " and not exists (select from runs r where r.run_id = c.run_id)"
            ),
            {"study": study.name},
        )
        connection.execute(
            text("update study_cells set wanted = false where study = :study and run_id <> all(:cells)"),
            {"study": study.name, "cells": list(settings)},
        )
        rows = [
            (
                *(study.name, cell.run_id, place, cell.part, cell.dataset, cell.backbone, cell.method, cell.seed),
                *(dict(cell.changed), settings[cell.run_id], True),
            )
            for place, cell in enumerate(cells, start=1)
        ]
        replace_rows(connection, "study_cells", COLUMNS, rows, study=study.name, run_id=list(settings))


def standings(warehouse: Warehouse, study: str) -> dict[str, Standing]:
    """How far each cell is that the study's file names, in order, by the id of its run.

    Raises:
        InputError: there is no such study.
    """
    with transaction(warehouse) as connection:
        if not connection.scalar(text("select exists (select from studies where study = :study)"), _named(study)):
            raise InputError(f"There is no study {study!r} in the warehouse; `llmser studies` lists them.")
        rows = connection.execute(text(f"{STATES} where c.study = :study and wanted order by place"), _named(study))
        return {row.run_id: Standing(row.run_id, row.state, row.message) for row in rows}


def states(warehouse: Warehouse, run_ids: Sequence[str]) -> dict[str, str]:
    """How far these runs are, of those that have begun."""
    with transaction(warehouse) as connection:
        found = text("select run_id, run_state(state, owner) as state from runs where run_id = any(:runs)")
        return {row.run_id: row.state for row in connection.execute(found, {"runs": list(run_ids)})}


def standing(warehouse: Warehouse, run_id: str) -> Standing:
    """How far one cell is just now."""
    with transaction(warehouse) as connection:
        row = connection.execute(text(f"{STATES} where c.run_id = :run limit 1"), {"run": run_id}).one()
    return Standing(row.run_id, row.state, row.message)


def not_begun(warehouse: Warehouse, study: str, run_id: str, message: str | None) -> None:
    """Note why a cell could not even begin; None: it is tried again."""
    with transaction(warehouse) as connection:
        connection.execute(
            text("update study_cells set message = :message where study = :study and run_id = :run"),
            {"study": study, "run": run_id, "message": message and storable(message)},
        )


def study_of(connection: Connection, run_id: str) -> str | None:
    """The study that a run is a cell of."""
    found: str | None = connection.scalar(
        text("select min(study) from study_cells where run_id = :run"), {"run": run_id}
    )
    return found


def _refuse_contradictions(
    connection: Connection, study: Study, cells: Sequence[Cell], settings: Mapping[str, Mapping[str, Any]]
) -> None:
    """
    Raises:
        InputError: as `note`.
    """
    begun = connection.execute(
        text("select run_id, config, state from runs where run_id = any(:cells)"), {"cells": list(settings)}
    ).all()
    titles = {cell.run_id: cell.title for cell in cells}
    for row in begun:
        before, now = {**BEFORE_THERE_WAS, **row.config}, settings[row.run_id]
        # What there was no setting for when it began does not contradict anything.
        other = [name for name in now if name in before and before[name] != now[name]]
        if other:
            was, would = (storable_json(values[other[0]]) for values in (before, now))
            raise InputError(
                f"Study {study.file} says {other[0]} {would} for {titles[row.run_id]}, whose run {row.run_id} has "
                f"{'finished' if row.state == 'succeeded' else 'begun'} with {was}. Take the change back, or give the "
                "study another name: under that its file starts anew, and what is unchanged is not made again."
            )


def _named(study: str) -> dict[str, str]:
    return {"study": storable(study)}


def _only_one(connection: Connection, study: str) -> None:
    """Who changes a study waits here until nobody else does."""
    lock = text("select pg_advisory_xact_lock(hashtext('llmser studies'), hashtext(:study))")
    connection.execute(lock, {"study": study})
