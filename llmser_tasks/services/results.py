"""A finished run's figures in a terminal. Where it is too narrow for a table with the methods' titles, there is less
around these: no lines between columns, no zero before a decimal point, and what is said of a group stands above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from llmser_tasks.core.decimals import decimal
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, REFERENCE, reported
from llmser_tasks.core.names import CONDITIONAL, ONE_SEED, title_of, what_was_tried, why_chosen
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.tables import runs, steps
from llmser_tasks.warehouse.tables.runs import RunRow

if TYPE_CHECKING:
    from pandas import DataFrame

METRICS = ("H@10", "N@10", "H@20", "N@20", "MRR")
ANY_WIDTH = 1000  # characters, more than any table has


def show(warehouse: Warehouse, run_id: str, console: Console) -> None:
    """Print every method over all users, each against the reference per user group (full ranking), and whose
    recommendations the run has.
    """
    run = runs.load(warehouse, run_id)
    compared = _frame(warehouse, "tail-report", run_id).query("protocol == 'full'")
    overall = _frame(warehouse, "table1", run_id).query("protocol == 'full' and user_group == 'all'")
    tables = [_fitting(console, lambda narrow: _overall(overall, narrow))]
    if not compared.empty:
        tables.append(_fitting(console, lambda narrow: _against_reference(compared, run.dataset, narrow)))
    tables[-1].caption = _warning(warehouse, run) or None
    for table in tables:
        console.print(table)
    validated = _frame(warehouse, "validations", run_id).set_index("method")
    figures = validated["N@10"].to_dict()
    in_order = {method: figures[method] for method in _in_order(map(str, figures))}
    for method, by in validated["by"].dropna().items():
        why = why_chosen(by, in_order)
        console.print(f"Recommendations are those of {title_of(str(method))}, {why}.", markup=False, highlight=False)
    if (found := steps.tried(warehouse, run_id)) is not None:
        console.print(what_was_tried(found), markup=False, highlight=False)
    console.print(*[ONE_SEED] * bool((compared["seeds"] == 1).any()), CONDITIONAL, style="dim")


def save_report(warehouse: Warehouse, run_id: str, home: Path) -> Path:
    """Write the run's HTML report below the home; returns its path."""
    folder = home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in run_id)}.html"
    path.write_text(queries.report(warehouse, run_id), encoding="utf-8")
    return path


def _frame(warehouse: Warehouse, what: str, run_id: str) -> DataFrame:
    from pandas import DataFrame

    with queries.read(warehouse, what, run_id) as found:
        return DataFrame(map(tuple, found.rows), columns=list(found.columns), dtype=object)  # values as they are


def _fitting(console: Console, make: Callable[[bool], Table]) -> Table:
    """The table as it is where the terminal is wide enough for it, else the narrow one."""
    table = make(False)
    needed = console.measure(table, options=console.options.update(width=ANY_WIDTH)).maximum
    return table if needed <= console.width else make(True)


def _overall(of_methods: DataFrame, narrow: bool) -> Table:
    table = _table("All users, full ranking", ["method", *METRICS], narrow)
    by_method = of_methods.set_index("method")
    for name in _in_order(by_method.index):
        figures = ["" if value is None else _decimal(value, 4, narrow) for value in by_method.loc[name, list(METRICS)]]
        table.add_row(title_of(name), *figures)
    return table


def _against_reference(compared: DataFrame, dataset: str, narrow: bool) -> Table:
    """A line per group and compared method; the one method of a usual run has its title above its column."""
    methods = _in_order(compared["method"])
    reference = METHODS[REFERENCE]
    one = title_of(methods[0]) if len(methods) == 1 else ""
    only = "" if narrow else one
    title = f"{reference.heading} against {one or 'the others'}, NDCG@10, full ranking, {dataset}"
    of_group = [] if narrow else ["group", "users", reference.title]
    of_method = [only] if only else ["method", "N@10"]
    table = _table(title, [*of_group, *of_method, "difference", "p (Holm)"], narrow)
    for group, rows in compared.groupby("user_group", sort=False):
        by_method = rows.set_index("method").to_dict("index")
        for place, method in enumerate(methods):
            row = by_method[method]
            first = [str(group), f"{row['users']:,}", _decimal(row["reference_mean"], 4, narrow)]
            change = f"{100 * row['difference'] / row['reference_mean']:+.1f} %" if row["reference_mean"] else "–"
            if narrow and not place:
                table.add_row("{}: {} users, {} {}".format(*first[:2], reference.title, first[2]), style="bold")
            table.add_row(
                *([] if narrow else [""] * 3 if place else first),
                *([] if only else [f"  {title_of(method)}" if narrow else title_of(method)]),
                _decimal(row["mean"], 4, narrow),
                f"{change} {row['stars'] or ''}".rstrip(),
                _decimal(row["p_holm"], 3, narrow),
            )
    return table


def _decimal(value: Any, places: int, narrow: bool) -> str:
    return decimal(value, places) if narrow else f"{value:.{places}f}"


def _in_order(methods: Iterable[str]) -> list[str]:
    """Each method once; those that are declared no more come last."""
    found = dict.fromkeys(methods)
    known = list(reported(found))
    return known + [name for name in found if name not in known]


def _table(title: str, columns: Iterable[str], narrow: bool) -> Table:
    table = Table(title=title)
    if narrow:
        table.box, table.show_edge, table.pad_edge, table.padding = box.SIMPLE_HEAD, False, False, 0
    for name in columns:
        table.add_column(name, justify="left" if name in {"group", "method"} else "right")
    return table


def _warning(warehouse: Warehouse, run: RunRow) -> str:
    """What whoever reads the figures has to know of the data and the answers."""
    warning = "SYNTHETIC sample data: no finding about real users. " if run.synthetic else ""
    askable = runs.askable(warehouse, run.run_id)
    steps = (askable or {}).get("steps", {})
    if run.config.get("endpoint") == "llmser_ranker" and (askable is None or any(steps.values())):
        warning += "Answers by the embedding-ranker, which is no LLM. "
    if askable and any(users < askable["users"] for users in steps.values()):
        asked = ", ".join(f"{users:,} of {askable['users']:,} users in {step}" for step, users in steps.items())
        warning += f"Could be asked: {asked}; {askable['titled']:,} of {askable['items']:,} items have a title."
    return warning.strip()
