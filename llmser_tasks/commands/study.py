"""`llmser study` and `llmser studies`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from llmser_tasks.commands.formats import FLOAT, FORMATS, TEXT, WHOLE
from llmser_tasks.commands.show import format_option, opened, refuse_unreadable, to_stdout
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.names import CONDITIONAL
from llmser_tasks.core.places import path_of
from llmser_tasks.services.terminal import log_to, stderr, steps_shown
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.queries import Rows

if TYPE_CHECKING:
    from llmser_tasks.core.cells import Cell
    from llmser_tasks.core.handle import Warehouse
    from llmser_tasks.core.study import Study

PLANNED = {
    "cell": TEXT, "run_id": TEXT, "state": TEXT, "questions": WHOLE, "calls": WHOLE, "prompt_tokens": WHOLE,
    "completion_tokens": WHOLE, "cost": FLOAT, "most": FLOAT, "trainings": WHOLE, "hours": FLOAT, "known": TEXT,
}  # fmt: skip


@click.command()
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Say what each cell costs and what is there already; run nothing.")
@click.option("--dataset", "datasets", multiple=True, help="Study this dataset, not the file's; may be repeated.")
@click.option("--reviews", multiple=True, metavar="DATASET=FILE", help="A dataset's review dump; may be repeated.")
@click.option("--items", multiple=True, metavar="DATASET=FILE", help="A dataset's item dump; may be repeated.")
@format_option
def study(
    file: str, dry_run: bool, datasets: Sequence[str], reviews: Sequence[str], items: Sequence[str], form: str
) -> None:
    """Run a study, cell by cell, in this process: FILE, or the name of one that ships.

    Ctrl-C stops it; the same command takes up exactly what is open, and a file that has grown adds what is new. With
    --dry-run the dumps are read, but nothing is asked or trained: `calls` and tokens are those left to pay for,
    `hours` those of trainings.
    """
    refuse_unreadable(form)
    asked = _asked(file, datasets, {"reviews": reviews, "items": items})
    console = stderr()
    log_to(console)
    if dry_run:
        _plan(asked, form, console)
        return
    from llmser_tasks.runs import study as studying

    studying.check(asked)  # what is wrong is told before anything starts
    with address.database() as warehouse:
        outcome = studying.run_study(
            asked,
            workspace=environment.workspace(),
            warehouse=warehouse,
            shown=partial(_shown, console, warehouse),
            told=lambda sentence: console.print(sentence, markup=False),
        )
        _main_table(warehouse, asked.name, form)
    console.print(f"More: llmser studies {asked.name}; llmser show RUN", markup=False)
    studying.finished(outcome)
    echo(f"Study {asked.name}: {outcome.sentence}", err=True)


@click.command()
@click.argument("study", required=False)
@click.option("--figures", is_flag=True, help="The study's main table so far, in place of its cells.")
@format_option
def studies(study: str | None, figures: bool, form: str) -> None:
    """List the studies, or the cells of one STUDY with their state and runs."""
    from llmser_tasks.warehouse.pages import studies as pages

    refuse_unreadable(form)
    if figures and study is None:
        raise click.UsageError("--figures belongs to one study; name it.")
    with address.kept_database() as warehouse:
        if figures and study is not None:
            _main_table(warehouse, study, form)
            return
        with pages.listed(warehouse, study) as found:
            to_stdout(found, form)


def _asked(file: str, datasets: Sequence[str], dumps: dict[str, Sequence[str]]) -> Study:
    """The study, with what the command line says about its datasets."""
    from llmser_tasks.core.study import path_of_study, read_study

    path = path_of_study(file)
    given: dict[str, dict[str, Any]] = {}
    for what, pairs in dumps.items():
        for pair in pairs:
            name, equals, dump = pair.partition("=")
            if not (name and equals and dump):
                raise click.UsageError(f"--{what} {pair!r}: write it as DATASET=FILE.")
            given.setdefault(name, {})[what] = str(path_of(what, dump).absolute())
    names = list(datasets) or list(read_study(path).asked.datasets)
    if others := [name for name in given if name not in names]:
        raise InputError(
            f"Dumps were given of {others[0]}, which is not studied; the datasets are: {', '.join(names)}. "
            f"--dataset {others[0]} studies it."
        )
    return read_study(path, {name: given.get(name, {}) for name in names})


def _plan(asked: Study, form: str, console: Console) -> None:
    from llmser_tasks.core.cells import cells_of

    cells = cells_of(asked)
    with address.database() as warehouse:
        from llmser_tasks.runs import pipeline, study_cost
        from llmser_tasks.warehouse.tables import studies

        states = studies.states(warehouse, [cell.run_id for cell in cells])
        found = list(
            study_cost.costs(
                cells,
                states,
                workspace=environment.workspace(),
                warehouse=warehouse,
                endpoint_of=pipeline.configured_endpoint,
                embedding_of=partial(pipeline.configured_endpoint, embeds=True),
            )
        )
    rows = [{"cell": cell.title, "run_id": cell.run_id, **asdict(cost)} for cell, cost in found]
    with opened(None) as out:
        FORMATS[form](
            Rows(list(PLANNED), list(PLANNED.values()), ([row[name] for name in PLANNED] for row in rows)), out
        )
    console.print(study_cost.summary([cost for _, cost in found]), markup=False)


def _main_table(warehouse: Warehouse, study: str, form: str) -> None:
    from llmser_tasks.warehouse.pages import studies as pages

    with pages.figures(warehouse, study) as found:
        to_stdout(found, form)
    echo(CONDITIONAL, err=True)


@contextmanager
def _shown(console: Console, warehouse: Warehouse, cell: Cell, number: int, of: int) -> Iterator[None]:
    console.print(f"Cell {number} of {of}: {cell.title} (run {cell.run_id})", markup=False)
    with steps_shown(console, warehouse, cell.run_id):
        yield
