"""A study: many runs of `llmser`, each a cell, in the order of what tells most.

Every cell is a mapped task that starts an ordinary run of `llmser` and waits for it without a worker. A few go at
once, the others follow in order; what cells have in common is made by the first of them and found by the others. One
that fails does not stop the others, and the last task says how the study stands. Started again, the study takes up
exactly what is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.sdk import DAG, Context, Param, RetryAction, RetryRule, TriggerRule, task
from airflow.utils.state import DagRunState

import llmser_retries
from llmser_tasks.core import study as studies
from llmser_tasks.services import form

if TYPE_CHECKING:
    from llmser_tasks.core.study import Study

RUNS = "llmser"
AT_ONCE = 2  # what one cell trains the next one mostly needs; more would wait for it
MOST = 1000  # cells that one run of this DAG takes; Airflow maps 1,024 at most
LOOK_EVERY_S = 15
ENDED = [DagRunState.SUCCESS, DagRunState.FAILED]
FAILED = llmser_retries.Kind(
    RetryRule(
        exception="airflow.sdk.exceptions.AirflowException",
        action=RetryAction.FAIL,
        reason="The cell's run has failed, after all the tries that its own tasks have.",
    )
)


class Cell(TriggerDagRunOperator):
    """Starts a cell's run, or takes a failed one up again; waits where it is at work already."""

    template_fields = ()  # settings are what they are, braces or not

    def execute(self, context: Context) -> None:
        run_id = str(self.trigger_run_id)
        if context["ti"].get_dr_count(RUNS, run_ids=[run_id], states=["queued", "running"]):  # else it would be reset
            waiting = DagStateTrigger(RUNS, states=ENDED, run_ids=[run_id], poll_interval=LOOK_EVERY_S)
            self.defer(trigger=waiting, method_name="execute_complete")
        super().execute(context)


def asked() -> Study:
    """The study that the form names.

    Raises:
        InputError: it is none; or its file, or a dump, lies where runs on Airflow may not read.
    """
    from airflow.sdk import get_current_context

    from llmser_tasks.core import environment, places
    from llmser_tasks.core.cells import cells_of

    entered = form.values(get_current_context()["params"])
    name, home = str(entered.get("study") or ""), environment.home()
    if name not in studies.ready_names():  # before it is known whether there is such a file
        places.check_files({"The study": name or "."}, places.readable(home), home)
    study = studies.read_study(studies.path_of_study(name), entered.get("datasets"))
    for cell in cells_of(study):
        places.check(cell.config, places.readable(home), home)
        if environment.configuration(form.values(cell.values)) != cell.config:
            raise study.refused(
                cell.title,
                "a setting that its dataset's file sets is emptied (null), which a run on Airflow cannot be told; give "
                "the dataset a file without it.",
            )
    return study


@task
def open_study() -> list[dict[str, Any]]:
    """Check the whole study, note it, and hand out what is open of it, in order."""
    from airflow.sdk.exceptions import AirflowFailException

    from llmser_tasks.core.errors import InputError
    from llmser_tasks.runs.study import open_cells
    from llmser_tasks.warehouse import address

    try:
        cells = open_cells(address.warehouse(), asked())
    except InputError as error:
        raise AirflowFailException(str(error)) from None
    return [{"trigger_run_id": cell.run_id, "conf": dict(cell.values)} for cell in cells[:MOST]]


@task(trigger_rule=TriggerRule.ALL_DONE)
def close_study(opened: Any) -> str:
    """Say how the study stands; it has failed as long as cells are open."""
    from airflow.sdk.exceptions import AirflowFailException

    from llmser_tasks.core.errors import InputError
    from llmser_tasks.runs.study import check, finished, outcome
    from llmser_tasks.warehouse import address

    if opened is None:
        raise AirflowFailException("The study could not be opened; the task open_study says why.")
    try:
        study = asked()
        how = outcome(address.warehouse(), study.name, check(study))
        finished(how)
    except InputError as error:
        raise AirflowFailException(str(error)) from None
    return how.sentence


with DAG(
    dag_id="llmser_study",
    dag_display_name="LLMSeR study",
    description="Datasets × backbones × methods × seeds × settings: a run of llmser for each cell",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=4,
    params={
        "study": Param(
            "quick",
            type="string",
            minLength=1,
            title="Study",
            description="One that ships, or the path of a file, in a folder from which runs may read.",
            examples=studies.ready_names(),
        ),
        "datasets": Param(
            None,
            type=["object", "null"],
            title="Datasets",
            description='Studied in place of the file\'s: {"beauty": {"reviews": "reviews.json.gz", "items": '
            '"meta.json.gz"}}. Empty: the file\'s own.',
        ),
    },
    default_args={"owner": "llmser", "execution_timeout": llmser_retries.SHORT, **llmser_retries.RETRIED},
    tags=["recommendation"],
):
    opened = open_study()
    cells = Cell.partial(
        task_id="cell",
        doc_md="One run of `llmser` for each cell; its link leads there. Clear it to start that run again.",
        trigger_dag_id=RUNS,
        logical_date=None,
        reset_dag_run=True,
        wait_for_completion=True,
        deferrable=True,
        poke_interval=LOOK_EVERY_S,
        max_active_tis_per_dagrun=AT_ONCE,
        map_index_template="{{ task.trigger_run_id }}",
        retry_policy=llmser_retries.Retries([*llmser_retries.KINDS, FAILED]),
    ).expand_kwargs(opened)
    cells >> close_study(opened=opened)
