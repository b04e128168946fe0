"""`llmser compare`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from llmser_tasks.commands.show import announced, format_option, refuse_unreadable, to_stdout
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.kinds import BACKBONES, METHODS
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, ONE_SEED
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.queries import Rows
from llmser_tasks.warehouse.tables.artefacts import Kept

if TYPE_CHECKING:
    from llmser_tasks.evaluation.side_by_side import Cell, Row

TEXT, WHOLE, FLOAT = 25, 23, 701  # Postgres' type numbers
EXACT = {
    "protocol": TEXT, "user_group": TEXT, "users": WHOLE, "run_id": TEXT, "backbone": TEXT, "model": TEXT,
    "settings": 3802, "seeds": WHOLE, "metric": TEXT, "mean": FLOAT, "sd": FLOAT, "difference": FLOAT, "low": FLOAT,
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
@click.option("--reference", help="What stars compare with, [RUN:]MODEL. Default: base, of the first run.")
@format_option
def compare(runs: Sequence[str], protocol: str, groups: Sequence[str], reference: str | None, form: str) -> None:
    """Runs side by side, as papers print them: every model, mean ± sd over seeds, and stars.

    Stars tell how surely a row differs from the reference: a two-sided paired t-test over users, each averaged over the
    seeds, corrected by Holm for all comparisons shown. * is p < .05, ** p < .01, *** p < .001; ▼ before them means
    worse. A row or reference with one seed has none. CSV, JSON and Parquet hold differences, their intervals with the
    level of these, and p as well, a metric a line.
    """
    refuse_unreadable(form)
    with address.kept_database() as url:
        kept = [
            Kept.of(url, row, environment.workspace())
            for row in {row.run_id: row for row in (announced(url, run) for run in runs)}.values()
        ]
    from llmser_tasks.evaluation.side_by_side import compare_runs

    cells, chosen = compare_runs(kept, protocol=protocol, names=groups, reference=reference)
    if form == "table":
        to_stdout(_printed(cells), form)
        echo(
            f"{protocol}; against {_model(chosen)} of {chosen.run_id}: * p < .05, ** p < .01, *** p < .001"
            " (paired t-test, Holm); ▼ worse.",
            err=True,
        )
        if any(cell.seeds == 1 for cell in cells):
            echo(ONE_SEED, err=True)
    else:
        rows = (_exact(cell, protocol) for cell in cells)
        to_stdout(Rows(list(EXACT), list(EXACT.values()), rows), form)
        echo(INTERVALS, err=True)
    echo(CONDITIONAL, err=True)


def _exact(cell: Cell, protocol: str) -> Sequence[Any]:
    row = cell.row
    return (
        protocol, cell.group, cell.users, row.run_id, row.backbone, row.model, dict(row.settings), len(row.ranks),
        cell.metric, cell.mean, cell.sd, cell.difference, cell.low, cell.high, cell.level,
        cell.p, cell.p_holm, cell.stars,
    )  # fmt: skip


def _printed(cells: Sequence[Cell]) -> Rows:
    """A line per group and row, a column per metric."""
    lines = [list(line) for _, line in groupby(cells, key=lambda cell: (cell.group, id(cell.row)))]
    metrics = [cell.metric for cell in lines[0]]
    columns = ["group", "users", "run", "model", "settings", "seeds", *metrics]
    types = [TEXT, WHOLE, TEXT, TEXT, TEXT, WHOLE, *[TEXT] * len(metrics)]

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            row = line[0].row
            settings_ = ", ".join(f"{name} {_value(value)}" for name, value in row.settings.items())
            head = (line[0].group, line[0].users, row.run_id, _model(row), settings_, len(row.ranks))
            yield (*head, *map(_figure, line))

    return Rows(columns, types, rows())


def _model(row: Row) -> str:
    method = METHODS[row.model]
    if not method.trained:
        return method.title
    backbone = BACKBONES[row.backbone].title if row.backbone in BACKBONES else row.backbone
    return f"{backbone} + {method.title}" if row.model == "llmser" else backbone


def _figure(cell: Cell) -> str:
    spread = "" if cell.sd is None else f" ± {cell.sd:.4f}"
    return f"{cell.mean:.4f}{spread} {cell.stars}".rstrip()


def _value(value: Any) -> str:
    return ("+".join(map(str, value)) or "–") if isinstance(value, list) else "–" if value is None else str(value)
