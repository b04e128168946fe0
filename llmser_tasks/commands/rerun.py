"""`llmser rerun-failed` and `llmser accept`"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

import click

from llmser_tasks.commands.options import as_arguments
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.services.terminal import stderr
from llmser_tasks.warehouse import address

wait_option = click.option("--wait", is_flag=True, help="Follow the run to its end; exit code 1 if it fails.")


@click.command()
@click.argument("run")
@wait_option
def rerun_failed(run: str, wait: bool) -> None:
    """Rerun what failed of a run (its id, or `latest`), on the Airflow that `llmser up` started.

    Exactly the failed tasks are cleared, batches of questions one by one; what waits for them goes on by itself.
    Nothing that has an answer is asked again.
    """
    from llmser_tasks.services import airflow_api, local
    from llmser_tasks.warehouse.tables import acceptance

    with address.kept_database() as warehouse:
        run_id = _run_id(warehouse, run)
        with local.airflow_of(environment.home(), run_id, stderr()) as airflow:
            if airflow is None:
                raise InputError(_how_to_go_on(warehouse, run_id))
            here, client = airflow
            tasks = airflow_api.failed_tasks(client, run_id)
            if not tasks:
                raise InputError(f"Nothing of run {run_id} has failed.")
            parts = acceptance.failed(warehouse, run_id, _asking(tasks))
            airflow_api.clear(client, run_id, tasks)
            others = Counter(task for task, index in tasks if task not in QUESTION_STEPS)
            cleared = [task if number == 1 else f"{number} × {task}" for task, number in others.items()]
            echo(f"Cleared of run {run_id}: {', '.join([*cleared, *([acceptance.told(parts)] if parts else [])])}.")
            if wait:
                local.follow_to_end(here, client, run_id, stderr())


@click.command()
@click.argument("run")
@click.option("--revoke", is_flag=True, help="Take it back: ask about these users after all, and redo what follows.")
@wait_option
def accept(run: str, revoke: bool, wait: bool) -> None:
    """Let a run (its id, or `latest`) go on without the users of its failed batches that have no answer.

    These batches run again and ask nothing: answers that are there count, the other users go without (α = 0). How many
    they are stands in the run's batches and in its report. Batches that fail later are not accepted with them.
    """
    from llmser_tasks.services import airflow_api, local
    from llmser_tasks.warehouse.tables import acceptance

    with address.kept_database() as warehouse:
        run_id = _run_id(warehouse, run)
        with local.airflow_of(environment.home(), run_id, stderr()) as airflow:
            if revoke:
                parts = acceptance.revoke(warehouse, run_id)
            else:
                failed = None if airflow is None else _asking(airflow_api.failed_tasks(airflow[1], run_id))
                parts = acceptance.accept(warehouse, run_id, failed)
            if not parts:
                raise InputError(f"No batch of run {run_id} {'was accepted' if revoke else 'has failed'}.")
            echo(f"{'No longer accepted' if revoke else 'Accepted'} of run {run_id}: {acceptance.told(parts)}.")
            if airflow is None:
                echo(_how_to_go_on(warehouse, run_id), err=True)
                return
            here, client = airflow
            airflow_api.clear(client, run_id, [(part.step, part.batch) for part in parts], only_failed=not revoke)
            if wait:
                local.follow_to_end(here, client, run_id, stderr())


def _run_id(warehouse: Warehouse, run: str) -> str:
    from llmser_tasks.warehouse.tables import runs

    return runs.latest(warehouse).run_id if run == "latest" else run


def _asking(tasks: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(task, index) for task, index in tasks if task in QUESTION_STEPS and index >= 0]


def _how_to_go_on(warehouse: Warehouse, run_id: str) -> str:
    """For a run that the services that are up, if any are, do not know."""
    from llmser_tasks.warehouse.tables import runs

    command = shlex.join(["llmser", "run", "--run-id", run_id, *as_arguments(runs.load(warehouse, run_id).settings)])
    return (
        f"No Airflow that is up knows run {run_id}. If `llmser run` made it, this continues it: {command}\n"
        f"If Airflow made it, start that with `llmser up`, then `llmser rerun-failed {shlex.quote(run_id)}`."
    )
