"""Studies: a list of them, and one: its cells with their state, and its main table so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.study import MAIN
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.reading import Row, first, given, rows
from llmser_tasks.warehouse.queries import Rows, stream
from llmser_tasks.warehouse.rows import storable
from llmser_tasks.warehouse.tables.studies import STATES

LIST = f"""
    select s.study, s.title, count(c.run_id) as cells,
           count(*) filter (where c.state = 'succeeded') as succeeded,
           count(*) filter (where c.state = 'running') as running,
           count(*) filter (where c.state in ('failed', 'interrupted')) as failed,
           count(*) filter (where c.state = 'open') as open, s.created_at,
           greatest(s.changed_at, max(c.started_at), max(c.finished_at)) as moved_at
    from studies s left join ({STATES} where c.wanted) c using (study)
    group by s.study order by moved_at desc, s.study
"""  # noqa: S608, ours
STUDY = "select study, title, created_at, changed_at from studies where study = :study"
CELLS = f"""
    select run_id, part, dataset, backbone, method, seed, changed, state, message, started_at, finished_at, wanted
    from ({STATES} where c.study = :study) c order by not wanted, place, run_id
"""  # noqa: S608, ours

# Of the base's runs that succeeded: each method's seeds once, from the run that has most of them, and the reference,
# which is in every run. N@10, full ranking.
FIGURES = f"""
    with seeds as (
        select distinct on (c.dataset, c.backbone, m.method, m.user_group, m.seed)
               c.dataset, c.backbone, m.method, m.user_group, m.seed, m.value
        from study_cells c join runs r using (run_id) join metrics m using (run_id)
        where c.study = :study and c.part = '{MAIN}' and r.state = 'succeeded' and m.protocol = 'full'
              and m.metric = 'N@10' and m.user_group in ('all', 'tail users') and m.method in (c.method, :reference)
        order by c.dataset, c.backbone, m.method, m.user_group, m.seed, c.place desc
    )
    select dataset, backbone, method, count(*) filter (where user_group = 'all')::integer as seeds,
           avg(value) filter (where user_group = 'all') as "N@10",
           stddev_samp(value) filter (where user_group = 'all') as "N@10 sd",
           avg(value) filter (where user_group = 'tail users') as "N@10 tail",
           stddev_samp(value) filter (where user_group = 'tail users') as "N@10 tail sd"
    from seeds group by dataset, backbone, method
    order by dataset, backbone, method <> :reference, array_position(cast(:trained as text[]), method), method
"""  # noqa: S608, ours


def studies(warehouse: Warehouse) -> list[Row]:
    """One row a study, the one that moved last first."""
    with transaction(warehouse) as connection:
        return rows(connection, LIST)


def study(warehouse: Warehouse, name: str) -> Row:
    """A study's row, its cells in order, and its figures.

    Raises:
        InputError: there is no such study.
    """
    asked = {"study": storable(name)}
    with transaction(warehouse) as connection:
        found = first(connection, STUDY, **asked)
        if found is None:
            raise _none(name)
        return found | {"cells": rows(connection, CELLS, **asked), "figures": rows(connection, FIGURES, **asked)}


@contextmanager
def listed(warehouse: Warehouse, name: str | None = None) -> Iterator[Rows]:
    """All studies, or the cells of one, as they stream in.

    Raises:
        InputError: there is no such study.
    """
    with _read(warehouse, LIST if name is None else CELLS, name) as found:
        yield found


@contextmanager
def figures(warehouse: Warehouse, name: str) -> Iterator[Rows]:
    """A study's main table, as `study` has it.

    Raises:
        InputError: there is no such study.
    """
    with _read(warehouse, FIGURES, name) as found:
        yield found


@contextmanager
def _read(warehouse: Warehouse, statement: str, name: str | None) -> Iterator[Rows]:
    told = {} if name is None else {"study": storable(name)}
    if told:
        with transaction(warehouse) as connection:
            if first(connection, STUDY, **told) is None:
                raise _none(str(name))
    with stream(warehouse, text(statement).bindparams(**told, **given(statement))) as found:
        yield found


def _none(name: str) -> InputError:
    return InputError(f"There is no study {name!r} in the warehouse; `llmser studies` lists them.")
