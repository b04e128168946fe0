"""`llmser run`"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from llmser_tasks import settings
from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.commands.terminal import log_to, stderr, steps_shown
from llmser_tasks.console import echo


@click.command()
@click.option("--run-id", help="Id of the run; that of an earlier one takes it up again. Default: from the time.")
@of_settings()
@click.pass_context
def run(ctx: click.Context, /, run_id: str | None, **options: Any) -> None:
    """Run the whole pipeline in this process, without Airflow; the run's id goes to stdout.

    Steps whose inputs, settings and code are unchanged are skipped; an interrupted run continues where it was.
    """
    values = given(ctx, options)
    settings.configuration(values)  # a setting that cannot be used is told before anything starts
    run_id = run_id or f"run__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    console = stderr()
    log_to(console)
    console.print(f"Run {run_id}", markup=False)
    with settings.database() as url:
        from llmser_tasks import pipeline
        from llmser_tasks.services import results
        from llmser_tasks.warehouse import runs

        try:
            with steps_shown(console, url, run_id):
                pipeline.run_all(values, run_id=run_id, workspace=settings.workspace(), database_url=url)
        except (KeyboardInterrupt, SystemExit):
            runs.fail(url, run_id, "Interrupted; the same command with --run-id continues it.")
            raise
        results.show(url, run_id, console)
    console.print(f"More: llmser show {run_id} metrics; llmser export {run_id} report -o report.html", markup=False)
    echo(run_id)
