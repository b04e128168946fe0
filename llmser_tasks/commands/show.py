"""`llmser show` and `llmser export`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from llmser_tasks import settings
from llmser_tasks.commands.formats import FORMATS
from llmser_tasks.errors import StorageError
from llmser_tasks.warehouse import queries, runs
from llmser_tasks.warehouse.runs import RunRow

WHAT = [*queries.QUERIES, "report"]
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet", ".txt": "table"}
NAMES = ", ".join(WHAT)


@click.command(help=f"Show something of a run (its id, or `latest`) on stdout; WHAT is one of {NAMES}.")
@click.argument("run", default="latest")
@click.argument("what", type=click.Choice(WHAT), required=False)
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="table", show_default=True)
def show(run: str, what: str | None, form: str) -> None:
    if what is None:  # `llmser show runs`, `llmser show metrics`
        run, what = ("latest", run) if run in WHAT else (run, "table1")
    _write(run, what, form, None)


@click.command(help=f"Write something of a run (its id, or `latest`); WHAT is one of {NAMES}. Values are exact.")
@click.argument("run")
@click.argument("what", type=click.Choice(WHAT))
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Default: as the file's suffix says, or csv.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File. Default: stdout.")
def export(run: str, what: str, form: str | None, output: Path | None) -> None:
    output = None if output == Path("-") else output
    if form is None:
        form = SUFFIXES.get(output.suffix.lower(), "csv") if output else "csv"
    if what == "report" and output and output.suffix.lower() not in {".html", ".htm"}:
        raise click.UsageError("The report is HTML; name the file .html.")
    _write(run, what, form, output)


def _write(run: str, what: str, form: str, output: Path | None) -> None:
    if output is None and form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing to read; add -o FILE or redirect stdout.")
    with settings.database() as url:
        run_id = ""
        if what != "runs":
            row = runs.latest(url) if run == "latest" else runs.load(url, run)
            run_id = row.run_id
            click.echo(_title(row), err=True)
        if what == "report":
            html = queries.report(url, run_id)
            with _opened(output) as out:
                out.write(html.encode())
        else:
            with queries.read(url, what, run_id) as found, _opened(output) as out:
                FORMATS[form](found, out)
    if output:
        click.echo(f"Wrote {output}.", err=True)


def _title(run: RunRow) -> str:
    kind = ", SYNTHETIC sample data" if run.synthetic else ""
    why = f": {run.message}" if run.message else ""
    return f"Run {run.run_id} of dataset {run.dataset}{kind}, {run.state}{why}"


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that appears when it is whole."""
    if output is None:
        stdout = sys.stdout.buffer
        yield stdout
        stdout.flush()
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(output)
    except OSError as error:
        raise StorageError(f"Cannot write {output}: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)
