"""`llmser compare`"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from llmser_tasks.commands.formats import FLOAT, JSON, TEXT, WHOLE
from llmser_tasks.commands.show import announced, format_option, refuse_unreadable, to_stdout
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.kinds import BACKBONES, METHODS, REFERENCE
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, ONE_SEED
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.queries import Rows
from llmser_tasks.warehouse.tables.artefacts import StoredRun

if TYPE_CHECKING:
    from llmser_tasks.evaluation.side_by_side import Cell, Row

EXACT = {
    "protocol": TEXT, "user_group": TEXT, "users": WHOLE, "run_id": TEXT, "backbone": TEXT, "method": TEXT,
    "settings": JSON, "seeds": WHOLE, "metric": TEXT, "mean": FLOAT, "sd": FLOAT, "difference": FLOAT, "low": FLOAT,
    "high": FLOAT, "level": FLOAT, "p": FLOAT, "p_holm": FLOAT, "stars": TEXT,
}  # fmt: skip


@click.command()
@click.argument("runs", metavar="RUN…", nargs=-1, required=True)
@click.option("--protocol", default="full", show_default=True, help="full, or uniform-100: among sampled negatives.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    help="Users to show: all, tail users, head users, tail items, head items, n=1 …; may be repeated."
    " Default: the first three.",
)
@click.option("--reference", help=f"What stars compare with, [RUN:]METHOD. Default: {REFERENCE}, of the first run.")
@format_option
def compare(runs: Sequence[str], protocol: str, groups: Sequence[str], reference: str | None, form: str) -> None:
    """Runs side by side, as papers print them: every method, mean ± sd over seeds, and stars.

    Stars tell how surely a row differs from the reference: a two-sided paired t-test over users, each averaged over the
    seeds, corrected by Holm for all comparisons shown. * is p < .05, ** p < .01, *** p < .001; ▼ before them means
    worse. A row or reference with one seed has none. CSV, JSON and Parquet hold differences, their intervals with the
    level of these, and p as well, a metric a line.
    """
    refuse_unreadable(form)
    with address.kept_database() as warehouse:
        stored = [
            StoredRun.of(warehouse, row, environment.workspace())
            for row in {row.run_id: row for row in (announced(warehouse, run) for run in runs)}.values()
        ]
    from llmser_tasks.evaluation.side_by_side import compare_runs

    cells, chosen = compare_runs(stored, protocol=protocol, names=groups, reference=reference)
    if form == "table":
        to_stdout(_printed(cells), form)
        echo(
            f"{protocol}; against {_title(chosen)} of {chosen.run_id}: * p < .05, ** p < .01, *** p < .001"
            " (paired t-test, Holm); ▼ worse.",
            err=True,
        )
        if any(cell.seeds == 1 for cell in cells):
            echo(ONE_SEED, err=True)
    else:
        to_stdout(_exact(cells, protocol), form)
        echo(INTERVALS, err=True)
    echo(CONDITIONAL, err=True)


def _exact(cells: Sequence[Cell], protocol: str) -> Rows:
    """A metric a line."""
    rows = [
        {**vars(cell.row), **vars(cell), "protocol": protocol, "user_group": cell.group, "seeds": len(cell.row.ranks)}
        for cell in cells
    ]
    return Rows(list(EXACT), list(EXACT.values()), ([row[name] for name in EXACT] for row in rows))


def _printed(cells: Sequence[Cell]) -> Rows:
    """A line per group and row, a column per metric."""
    from pandas import DataFrame
    from pandas.api.types import is_integer_dtype

    figures = DataFrame(
        {
            "group": cell.group,
            "users": cell.users,
            "run": cell.row.run_id,
            "method": _title(cell.row),
            "settings": _told(cell.row.settings),
            "seeds": len(cell.row.ranks),
            "metric": cell.metric,
            "figure": _figure(cell),
        }
        for cell in cells
    )
    head = [name for name in figures if name not in {"metric", "figure"}]
    wide = figures.set_index([*head, "metric"])["figure"].unstack(sort=False).reset_index()
    types = [WHOLE if is_integer_dtype(kind) else TEXT for kind in wide.dtypes]
    return Rows([str(name) for name in wide], types, wide.itertuples(index=False, name=None))


def _title(row: Row) -> str:
    method = METHODS[row.method]
    if not method.trained:
        return method.title
    backbone = BACKBONES[row.backbone].title if row.backbone in BACKBONES else row.backbone
    return backbone if method.reference else f"{backbone} + {method.title}"


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in settings.items())


def _figure(cell: Cell) -> str:
    spread = "" if cell.sd is None else f" ± {cell.sd:.4f}"
    return f"{cell.mean:.4f}{spread} {cell.stars}".rstrip()


def _value(value: Any) -> str:
    return ("+".join(map(str, value)) or "–") if isinstance(value, list) else "–" if value is None else str(value)
