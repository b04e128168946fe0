"""Every table of the page for a spreadsheet: the same statements, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.pages import costs, drift, overview, published, results, studies
from llmser_tasks.warehouse.pages.reading import given
from llmser_tasks.warehouse.rows import storable

OF_ALL = {"datasets": overview.DATASETS, "runs": queries.QUERIES["runs"], "studies": studies.LIST}
OF_STUDY = {"cells": studies.CELLS, "main-table": studies.FIGURES}
OF_DATASET = {"drift": drift.DRIFT, "published": published.VERSIONS, "kept-back": published.KEPT_BACK}
OF_RUN = {
    name: queries.QUERIES[name]
    for name in (
        "steps",
        "batches",
        "metrics",
        "rungs",
        "item-maps",
        "tried",
        "reliability",
        "pseudo-items",
        "user-texts",
        "recommendations",
    )
} | {
    "means": results.STATEMENTS["metrics"],
    "comparisons": results.STATEMENTS["comparisons"],
    "earlier": results.STATEMENTS["earlier"],
    "omega": results.STATEMENTS["omega"],
    "histories": (
        "select h.user_id, i.position, i.item_id, t.title"
        " from histories h cross join lateral unnest(h.item_ids) with ordinality as i (item_id, position)"
        " left join item_titles t on t.run_id = h.run_id and t.item_id = i.item_id"
        " where h.run_id = :run order by h.user_id, i.position"
    ),
    **costs.STATEMENTS,
}


@contextmanager
def read(
    warehouse: Warehouse, name: str, *, run_id: str | None, dataset: str | None, study: str | None = None
) -> Iterator[queries.Rows]:
    """A table by its name, with the dump's own ids.

    Raises:
        InputError: there is no table of this name, or it wants a run, dataset or study and none is given.
        StorageError: Postgres is down.
    """
    statement, wanted = _statement(name)
    asked = {"run": run_id, "dataset": dataset, "study": study}
    values = {key: asked[key] for key in wanted}
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise InputError(f"The table {name} is of one {missing[0]}; say which.")
    told = {key: storable(value or "") for key, value in values.items()}
    bound = text(statement).bindparams(**told, **given(statement))
    with queries.stream(warehouse, bound) as rows:
        yield rows


def _statement(name: str) -> tuple[str, tuple[str, ...]]:
    """The statement of a table, and what it is asked for."""
    for tables, wanted in ((OF_RUN, ("run",)), (OF_DATASET, ("dataset",)), (OF_STUDY, ("study",)), (OF_ALL, ())):
        if name in tables:
            return tables[name], wanted
    raise InputError(f"There is no table {name!r}; there are: {', '.join([*OF_RUN, *OF_DATASET, *OF_STUDY, *OF_ALL])}.")
