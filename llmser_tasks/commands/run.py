"""`llmser run`"""

from __future__ import annotations

from typing import Any

import click

from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.services.terminal import log_to, stderr, steps_shown
from llmser_tasks.warehouse import address


@click.command()
@click.option("--run-id", help="Id of the run; that of an earlier one takes it up again. Default: from the time.")
@of_settings()
@click.pass_context
def run(ctx: click.Context, /, run_id: str | None, **options: Any) -> None:
    """Run the whole pipeline in this process, without Airflow; the run's id goes to stdout.

    Steps whose inputs, settings and code are unchanged are skipped; an interrupted run continues where it was.
    """
    values = given(ctx, options)
    environment.configuration(values)  # a setting that cannot be used is told before anything starts
    console = stderr()
    log_to(console)
    with address.database() as warehouse:
        from llmser_tasks.runs import pipeline
        from llmser_tasks.services import results
        from llmser_tasks.warehouse.tables import runs

        run_id = pipeline.new_run_id(values) if run_id is None else run_id
        runs.usable(warehouse, run_id)
        console.print(f"Run {run_id}", markup=False)
        with steps_shown(console, warehouse, run_id):
            pipeline.run_all(values, run_id=run_id, workspace=environment.workspace(), warehouse=warehouse)
        results.show(warehouse, run_id, console)
    console.print(f"More: llmser show {run_id} metrics; llmser export {run_id} report -o report.html", markup=False)
    echo(run_id)
