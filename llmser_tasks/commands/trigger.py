"""`llmser trigger`"""

from __future__ import annotations

from typing import Any

import click

from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.services.terminal import stderr


@click.command()
@click.option("--run-id", help="Id of the run. Default: Airflow makes one.")
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit code 1 if it fails.")
@of_settings()
@click.pass_context
def trigger(ctx: click.Context, /, run_id: str | None, wait: bool, **options: Any) -> None:
    """Start a run on the Airflow that `llmser up` started; its id goes to stdout."""
    from llmser_tasks.services import local
    from llmser_tasks.warehouse.tables import runs

    if run_id is not None:
        runs.check_id(run_id)
    values = given(ctx, options)
    environment.configuration(values)  # a setting that cannot be used is told here and now
    echo(local.trigger(environment.home(), values, wait=wait, console=stderr(), run_id=run_id))
