"""`llmser refresh`"""

from __future__ import annotations

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.services.terminal import log_to, stderr, steps_shown
from llmser_tasks.warehouse import address


@click.command()
@click.argument("dataset")
@click.option("--run-id", help="Id of the run; that of an earlier one takes it up again. Default: from the time.")
def refresh(dataset: str, run_id: str | None) -> None:
    """Take in what arrived for DATASET, in this process; the run's id goes to stdout.

    The run has the settings of the published one and starts from it: only users whose history changed are asked, and
    the models go on. Where Airflow runs, this happens by itself; see `llmser up`.
    """
    console = stderr()
    log_to(console)
    with address.kept_database() as warehouse:
        from llmser_tasks.runs import arrivals, pipeline
        from llmser_tasks.services import results
        from llmser_tasks.warehouse.tables import runs

        values = arrivals.values(warehouse, dataset)
        run_id = arrivals.new_run_id(dataset) if run_id is None else run_id
        runs.usable(warehouse, run_id)
        console.print(f"Run {run_id}", markup=False)
        with steps_shown(console, warehouse, run_id):
            pipeline.run_all(values, run_id=run_id, workspace=environment.workspace(), warehouse=warehouse)
        results.show(warehouse, run_id, console)
        console.print(runs.load(warehouse, run_id).unpublished or f"Readers of {dataset} have it.", markup=False)
    echo(run_id)
