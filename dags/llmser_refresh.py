"""New interactions start a run of `llmser` for their dataset alone.

They arrive as files in the dataset's inbox, or somebody reports them over REST; either is an event of the asset
`llmser_arrivals` whose partition is the dataset. `llmser_inbox` looks into the inboxes on a cron (every ten minutes,
because Airflow keeps a record of each look; LLMSER_REFRESH_CRON says otherwise), and on the same occasion finds the
runs whose failure went unnoticed. `llmser_refresh` answers an event with a run of `llmser` that starts from the
dataset's published run. While such a run waits or runs, whatever else arrives is taken in by one run after it.

An AssetWatcher would hear of files a little sooner, but its events carry no partition. A mapper with a list of allowed
keys would refuse a wrong dataset where nobody looks, and would know only the datasets of when it was read: here the run
fails, and its sentence says which datasets there are.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task
from airflow.sdk.exceptions import AirflowException

import llmser_notice
import llmser_retries
from llmser_tasks.core.handle import Warehouse

log = logging.getLogger(__name__)

RUNS = "llmser"
ARRIVALS = Asset(name="llmser_arrivals", uri="x-llmser://arrivals")
DEFAULTS = {"owner": "llmser", "execution_timeout": llmser_retries.SHORT, **llmser_retries.RETRIED}


def busy(run_id: str) -> bool:
    """Whether a run of `llmser` waits or runs."""
    from airflow.sdk import get_current_context

    count: int = get_current_context()["ti"].get_dr_count(RUNS, run_ids=[run_id], states=["queued", "running"])
    return count > 0


def catch_up(warehouse: Warehouse) -> None:
    """Note and tell failures that went untold because whoever should have told them was killed; never raises."""
    from airflow.sdk import get_current_context

    from llmser_tasks.core.errors import LlmserError
    from llmser_tasks.runs.reconcile import reconcile

    ti = get_current_context()["ti"]
    try:
        reconcile(warehouse, lambda run_ids, states: ti.get_dr_count(RUNS, run_ids=run_ids, states=states))
        llmser_notice.deliver(warehouse)
    except (LlmserError, AirflowException) as error:  # the next look is the better retry; inboxes do not wait for this
        log.warning("Whether runs have failed unnoticed is not known just now: %s", error)


@task(outlets=[ARRIVALS])
def look(*, outlet_events: Any = None) -> list[str]:
    """Look into every dataset's inbox; report those with something that no run has taken in, or that wait for a run.

    Before that, runs that failed without anybody being told are noted and told.

    Files that may still be written are left for the next look.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from llmser_tasks.core import environment
    from llmser_tasks.runs import arrivals
    from llmser_tasks.warehouse import address

    catch_up(address.warehouse())
    found = arrivals.due(address.warehouse(), environment.inbox(), busy)
    if not found:
        raise AirflowSkipException("Nothing new has arrived.")
    outlet_events[ARRIVALS].add_partitions(found)
    return found


@task(multiple_outputs=True)
def take() -> dict[str, Any]:
    """Settle which run answers the event: a new one, or, where one waits or runs, one after it, which is noted."""
    from airflow.sdk import get_current_context
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from llmser_tasks.core import environment
    from llmser_tasks.core.errors import InputError
    from llmser_tasks.runs import arrivals
    from llmser_tasks.warehouse import address

    dataset = get_current_context()["dag_run"].partition_key
    if dataset is None:
        raise AirflowFailException("The event names no dataset; its partition key must be one.")
    run_id = arrivals.new_run_id(dataset)
    try:
        values = arrivals.take(address.warehouse(), environment.inbox(), dataset, run_id, busy)
    except InputError as error:
        raise AirflowFailException(str(error)) from None
    if values is None:
        raise AirflowSkipException(f"A refresh of {dataset} waits or runs; another one comes after it.")
    return {"run_id": run_id, "conf": values}


with DAG(
    dag_id="llmser_inbox",
    dag_display_name="LLMSeR inbox",
    description="Looks for new interactions of every dataset",
    doc_md=__doc__,
    schedule=os.environ.get("LLMSER_REFRESH_CRON") or "*/10 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["recommendation"],
):
    look()

with DAG(
    dag_id="llmser_refresh",
    dag_display_name="LLMSeR refresh",
    description="New interactions of a dataset → a run that asks only about the users they change",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=ARRIVALS),
    catchup=False,
    is_paused_upon_creation=False,
    default_args=DEFAULTS,
    tags=["recommendation"],
):
    taken: Any = take()
    TriggerDagRunOperator(
        task_id="start_run",
        trigger_dag_id=RUNS,
        trigger_run_id=taken["run_id"],
        conf=taken["conf"],
        logical_date=None,
        skip_when_already_exists=True,  # a retry after it was started
    )
