"""`llmser show` and `llmser export`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click
from typing_extensions import override

from llmser_tasks.commands.formats import FORMATS
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo, rows_out
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, title_of
from llmser_tasks.core.private import handed_out
from llmser_tasks.warehouse import address, queries
from llmser_tasks.warehouse.queries import Rows
from llmser_tasks.warehouse.tables import acceptance, runs
from llmser_tasks.warehouse.tables.runs import RunRow

WHAT = [*queries.QUERIES, "report"]
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet", ".txt": "table"}
NAMES = ", ".join(WHAT)
TESTED = {"tail-report": CONDITIONAL, "comparisons": f"{INTERVALS} {CONDITIONAL}"}  # what every p needs beside it


format_option = click.option("--format", "form", type=click.Choice(list(FORMATS)), default="table", show_default=True)
force_option = click.option("--force", is_flag=True, help="Replace a file that is there.")


@click.command(help=f"Show something of a run (its id, or `latest`) on stdout; WHAT is one of {NAMES}.")
@click.argument("run", default="latest")
@click.argument("what", type=click.Choice(WHAT), required=False)
@format_option
def show(run: str, what: str | None, form: str) -> None:
    if what is None:  # `llmser show runs`, `llmser show metrics`
        run, what = ("latest", run) if run in WHAT else (run, "table1")
    _write(run, what, form, None)


@click.command(
    help=f"Write something of a run (its id, or `latest`); WHAT is one of {NAMES}, model. Values are exact. A model is"
    " a folder with its weights and all that is needed to use them elsewhere."
)
@click.argument("run")
@click.argument("what", type=click.Choice([*WHAT, "model"]))
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Default: as the file's suffix says, or csv.")
@click.option("--method", metavar="METHOD", help="Whose model to write. Default: that of the run's recommendations.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. Default: stdout; of a model, `model`.")
@force_option
def export(run: str, what: str, form: str | None, method: str | None, output: Path | None, force: bool) -> None:
    if what == "model":
        if force:
            raise click.UsageError("A model's folder is never written over; leave --force out.")
        if form:
            raise click.UsageError("A model has one format, safetensors; leave --format out.")
        _write_model(run, method, output or Path("model"))
        return
    if method:
        raise click.UsageError(f"--method belongs to `llmser export {run} model`.")
    output = None if output == Path("-") else output
    form = form_of(form, output)
    if what == "report" and output and output.suffix.lower() not in {".html", ".htm"}:
        raise click.UsageError("The report is HTML; name the file .html.")
    _write(run, what, form, output, force)


def form_of(form: str | None, output: Path | None) -> str:
    """The format that was asked for, or that the file's name asks for."""
    return form or (SUFFIXES.get(output.suffix.lower(), "csv") if output else "csv")


def _write(run: str, what: str, form: str, output: Path | None, force: bool = False) -> None:
    if output is None:
        refuse_unreadable(form)
    refuse_overwriting(output, force)
    told = "."
    with address.kept_database() as warehouse:
        run_id = ""
        if what != "runs":
            run_id = announced(warehouse, run).run_id
        if what == "report":
            html = queries.report(warehouse, run_id)
            with opened(output) as out:
                out.write(html.encode())
        else:
            with queries.read(warehouse, what, run_id) as found, opened(output) as out:
                rows = Counted(found.rows)
                FORMATS[form](replace(found, rows=rows), out)
            of = f"run {run_id}" if run_id else "the warehouse"
            told = f": {rows.number:,} rows." if rows.number else f": no rows; {of} has no {what}."
    if what in TESTED:
        click.echo(TESTED[what], err=True)
    if output:
        echo(f"Wrote {output}{told}", err=True)


def _write_model(run: str, method: str | None, folder: Path) -> None:
    from llmser_tasks.serving import chosen
    from llmser_tasks.serving.export import export_model
    from llmser_tasks.warehouse.tables.artefacts import StoredRun

    with address.kept_database() as warehouse:
        stored = StoredRun.of(warehouse, announced(warehouse, run), environment.workspace())
    method, title = chosen(stored) if method is None else (method, title_of(method))
    export_model(stored, method, folder)
    echo(f"Wrote {folder}, a model of {title}; the README shows how to load it.", err=True)


def announced(warehouse: Warehouse, run: str) -> RunRow:
    """The run of this id, or the `latest`; its dataset and state go to stderr."""
    row = runs.latest(warehouse) if run == "latest" else runs.load(warehouse, run)
    kind = ", SYNTHETIC sample data" if row.synthetic else ""
    why = f": {row.message}" if row.message else ""
    missing = "".join(
        f"; {step}: {acceptance.MESSAGE.format(accepted=n)}"
        for step, n in acceptance.users(warehouse, row.run_id).items()
    )
    echo(f"Run {row.run_id} of dataset {row.dataset}{kind}, {row.state}{why}{missing}", err=True)
    return row


def refuse_unreadable(form: str) -> None:
    """Raises UsageError where Parquet would go to a terminal."""
    if form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is not text; redirect stdout to a file.")


def refuse_overwriting(output: Path | None, force: bool) -> None:
    """Raises InputError where a file would be lost, unless it was said that it may."""
    if output is not None and output.is_file() and not force:
        raise InputError(f"{output} is there already; name another file, or have it replaced with --force.")


class Counted(Iterator[Sequence[Any]]):
    """Rows as they pass, counted."""

    def __init__(self, rows: Iterator[Sequence[Any]]) -> None:
        self._rows = rows
        self.number = 0

    @override
    def __next__(self) -> Sequence[Any]:
        row = next(self._rows)
        self.number += 1
        return row


def to_stdout(found: Rows, form: str) -> None:
    """Write rows in one of FORMATS."""
    with opened(None) as out:
        FORMATS[form](found, out)


@contextmanager
def opened(output: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that appears when it is whole; what is no file (a pipe, /dev/null) is written into."""
    if output is None:
        stdout = rows_out()
        yield stdout
        stdout.flush()
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    special = output.exists() and not output.is_file() and not output.is_dir()
    try:
        if special:
            with output.open("wb") as file:
                yield file
            return
        with handed_out():
            file = temporary.open("wb")
        with file:
            yield file
        temporary.replace(output)
    except OSError as error:
        raise StorageError(f"Cannot write {output}: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)
