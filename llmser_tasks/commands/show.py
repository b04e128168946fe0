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
from llmser_tasks.console import echo, rows_out
from llmser_tasks.errors import StorageError
from llmser_tasks.names import CONDITIONAL, INTERVALS
from llmser_tasks.private import handed_out
from llmser_tasks.serving import KINDS, ModelName
from llmser_tasks.warehouse import acceptance, queries, runs
from llmser_tasks.warehouse.queries import Rows
from llmser_tasks.warehouse.runs import RunRow

WHAT = [*queries.QUERIES, "report"]
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet", ".txt": "table"}
NAMES = ", ".join(WHAT)
TESTED = {"tail-report": CONDITIONAL, "comparisons": f"{INTERVALS} {CONDITIONAL}"}  # what is said beside each p


format_option = click.option("--format", "form", type=click.Choice(list(FORMATS)), default="table", show_default=True)


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
@click.option("--model", type=click.Choice(list(KINDS)), help="Which model to write. Default: llmser.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. Default: stdout; of a model, `model`.")
def export(run: str, what: str, form: str | None, model: ModelName | None, output: Path | None) -> None:
    if what == "model":
        if form:
            raise click.UsageError("A model has one format, safetensors; leave --format out.")
        _write_model(run, model or "llmser", output or Path("model"))
        return
    if model:
        raise click.UsageError(f"--model belongs to `llmser export {run} model`.")
    output = None if output == Path("-") else output
    form = form_of(form, output)
    if what == "report" and output and output.suffix.lower() not in {".html", ".htm"}:
        raise click.UsageError("The report is HTML; name the file .html.")
    _write(run, what, form, output)


def form_of(form: str | None, output: Path | None) -> str:
    """The format that was asked for, or that the file's name asks for."""
    return form or (SUFFIXES.get(output.suffix.lower(), "csv") if output else "csv")


def _write(run: str, what: str, form: str, output: Path | None) -> None:
    if output is None:
        refuse_unreadable(form)
    with settings.database() as url:
        run_id = ""
        if what != "runs":
            run_id = announced(url, run).run_id
        if what == "report":
            html = queries.report(url, run_id)
            with opened(output) as out:
                out.write(html.encode())
        else:
            with queries.read(url, what, run_id) as found, opened(output) as out:
                FORMATS[form](found, out)
    if what in TESTED:
        click.echo(TESTED[what], err=True)
    if output:
        echo(f"Wrote {output}.", err=True)


def _write_model(run: str, model: ModelName, folder: Path) -> None:
    from llmser_tasks.serving.export import export_model
    from llmser_tasks.warehouse.artefacts import Kept

    with settings.database() as url:
        export_model(Kept.of(url, announced(url, run), settings.workspace()), model, folder)
    echo(f"Wrote {folder}; how to load it stands in the README.", err=True)


def announced(url: str, run: str) -> RunRow:
    """The run of this id, or the `latest`; its dataset and state go to stderr."""
    row = runs.latest(url) if run == "latest" else runs.load(url, run)
    kind = ", SYNTHETIC sample data" if row.synthetic else ""
    why = f": {row.message}" if row.message else ""
    missing = "".join(
        f"; {step}: {acceptance.MESSAGE.format(accepted=n)}" for step, n in acceptance.users(url, row.run_id).items()
    )
    echo(f"Run {row.run_id} of dataset {row.dataset}{kind}, {row.state}{why}{missing}", err=True)
    return row


def refuse_unreadable(form: str) -> None:
    """Raises UsageError where bytes would go to a terminal."""
    if form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing to read; redirect stdout into a file.")


def to_stdout(found: Rows, form: str) -> None:
    """Write rows in one of FORMATS."""
    with opened(None) as out:
        FORMATS[form](found, out)


@contextmanager
def opened(output: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that appears when it is whole."""
    if output is None:
        stdout = rows_out()
        yield stdout
        stdout.flush()
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with handed_out():
            file = temporary.open("wb")
        with file:
            yield file
        temporary.replace(output)
    except OSError as error:
        raise StorageError(f"Cannot write {output}: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)
