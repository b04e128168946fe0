"""One run of this DAG takes one dataset through the whole of LLMSeR: from raw dumps to metrics and recommendations.

Wiring only. Every task calls the function of the same name in `llmser_tasks.runs.pipeline`, passes references to
artefacts (never data), and returns references. A step whose inputs, settings and code are unchanged ends at once and
says so; it ends as *success*, because Airflow's skipped state would spread to the steps below it.
"""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import DAG, Context, Param, TriggerRule
from airflow.sdk.bases.decorator import task_decorator_factory

import llmser_lineage as lineage
import llmser_metrics
import llmser_notice
import llmser_retries
import llmser_tasks
from llmser_tasks.core import config
from llmser_tasks.services import form

if TYPE_CHECKING:
    from llmser_tasks.core.run import Run
    from llmser_tasks.llm.endpoint import Endpoint

Refs = Any  # dict of name → Artefact.reference() when a task runs, Airflow's XComArg while the DAG is wired
Options = dict[str, Any]

SHORT: Options = {"execution_timeout": llmser_retries.SHORT}
DATA: Options = {"execution_timeout": llmser_retries.DATA}
ASKING: Options = {"pool": "llm", "execution_timeout": llmser_retries.ASKING}
TRAINING: Options = {"pool": "gpu", "queue": "gpu", "execution_timeout": llmser_retries.TRAINING}


class Resumable(_PythonDecoratedOperator):
    """A task that is called anew after it was put off, that is measured, and that says what its outlets are about."""

    def execute(self, context: Context, event: Any = None) -> Any:
        del event  # the moment at which it goes on; what there is to know stands in Postgres
        name = dataset(context)
        with (
            llmser_metrics.measured(self.task_id, context["run_id"], name, self.op_kwargs.get("batch")),
            failure_noted(context["run_id"], self.task_id, context["ti"].map_index, name),
        ):
            made = super().execute(context)
        lineage.note(context, self.outlets, name, made)
        return made


def step(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A task whose docstring is its page in the UI.

    What the user has to mend fails at once, without retries, and is told in one sentence. Where others are at work (a
    provider's Batch API) the task is put off, and its worker is free.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def plainly(*args: Any, **kwargs: Any) -> Any:
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
            from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

            from llmser_tasks.core.errors import InputError, Waiting

            try:
                return function(*args, **kwargs)
            except InputError as error:
                raise AirflowFailException(str(error)) from None
            except Waiting as waiting:
                later = TimeDeltaTrigger(timedelta(seconds=waiting.seconds))
                raise TaskDeferred(trigger=later, method_name="execute") from None

        options_ = {"doc_md": inspect.getdoc(function)} | options
        return task_decorator_factory(plainly, decorated_operator_class=Resumable, **options_)

    return decorate


@contextmanager
def failure_noted(run_id: str, task: str, index: int | None, name: str) -> Iterator[None]:
    """Keep in the warehouse why the task fails, here where it is known, until the task begins anew."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

    from llmser_tasks.core.errors import StorageError
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.engine import transaction
    from llmser_tasks.warehouse.tables import failures

    url, part = address.database_url(), -1 if index is None else index
    failures.forget(url, run_id, task, part)
    try:
        yield
    except (AirflowSkipException, TaskDeferred):
        raise
    except Exception as error:
        cause = error.__context__ if isinstance(error, AirflowFailException) else error
        with suppress(StorageError), transaction(url) as connection:  # what went wrong first is what is raised
            failures.note(connection, run_id, failures.of_error(cause or error, task, part), name)
        raise


def dataset(context: Any) -> str:
    """The name of the run's dataset, as it was entered."""
    entered = getattr(context.get("dag_run"), "conf", None) or {}
    return str(entered.get("dataset") or config.RunConfig().dataset.name)


def load() -> Run:
    """The run as the task `start` noted it; one whose failed tasks were cleared is no longer a failed one."""
    from airflow.sdk import get_current_context

    from llmser_tasks.core import environment
    from llmser_tasks.runs import pipeline
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs

    context = get_current_context()
    run_id, url = context["run_id"], address.database_url()
    if since := context["dag_run"].start_date:
        failed_runs.take_up(url, run_id, since)
    run = pipeline.load(run_id, workspace=environment.workspace(), database_url=url)
    check_places(run)
    return run


def check_places(run: Run) -> None:
    """Whoever may trigger a run names files, and must not read those of the service's user with it."""
    from llmser_tasks.core import environment, places

    places.check(run.config, places.readable(environment.home()), environment.home())


def endpoint(run: Run) -> Endpoint:
    """The Airflow connection that the run names; its password is the key."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from llmser_tasks.core import environment
    from llmser_tasks.llm.endpoint import Endpoint
    from llmser_tasks.llm.prices import priced
    from llmser_tasks.services.connections import endpoint_url

    name = run.config.llm.endpoint
    try:
        connection = Connection.get(name)
    except AirflowNotFoundException:
        found = Endpoint.from_environment(name)
    else:
        url = endpoint_url(connection.host, connection.port, connection.schema)
        found = Endpoint.from_mapping(name, url, connection.password, connection.extra_dejson)
    return priced(found, environment.home())


def failed(context: Any) -> None:
    """A task has failed for good, so the run has: sum up in the warehouse what has failed of it.

    This and `ended_badly` may run in the DAG processor, which kills what takes long: they import little, and what they
    miss is found by `llmser_tasks.runs.reconcile`.
    """
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs, failures

    error, ti = context.get("exception"), context.get("ti")
    if type(error).__name__ == "AirflowFailException":
        error = error.__context__ or error
    which = (getattr(ti, "task_id", failures.RUN), getattr(ti, "map_index", -1))
    why = failures.of_error(error if isinstance(error, BaseException) else None, *which)
    failed_runs.failed(address.database_url(), context["run_id"], why, dataset(context))


def ended_badly(context: Any) -> None:
    """The run has failed: note it where no task could (it was killed, say), and tell who wants to know."""
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs

    url, ended = address.database_url(), getattr(context.get("dag_run"), "end_date", None)
    failed_runs.ended_badly(url, context["run_id"], dataset=dataset(context), ended=ended)
    llmser_notice.deliver(url)


@step(**SHORT)
def start() -> Any:
    """Check the settings, note the run in Postgres, and hand out its seeds.

    The settings are the form's; empty fields of the dataset come from the dataset's file.
    """
    from airflow.sdk import get_current_context

    from llmser_tasks.core import environment
    from llmser_tasks.runs import pipeline
    from llmser_tasks.warehouse import address

    context = get_current_context()
    entered = form.values(context["dag_run"].conf or {})  # not params: their defaults would hide the dataset's file
    run = pipeline.start(
        context["run_id"], entered, workspace=environment.workspace(), database_url=address.database_url()
    )
    check_places(run)
    return list(run.config.evaluation.seeds)


@step(**DATA, inlets=[lineage.DUMPS], outlets=[lineage.INTERACTIONS])
def ingest() -> Refs:
    """Read the dumps into typed, sorted tables of interactions and items.

    Lines that cannot be used go to a quarantine file with their number and the reason; the report adds up:
    lines read = kept + filtered + quarantined. Then the core filter drops rare users and items.
    """
    from llmser_tasks.runs import pipeline

    return pipeline.ingest(load())


@step(**DATA, inlets=[lineage.INTERACTIONS], outlets=[lineage.HISTORIES])
def sequences(ingested: Refs) -> Refs:
    """Cut every user's history into training history S_u, validation and test items.

    They become separate artefacts, so that nothing up to the weights α can even name a held-out item.
    """
    from llmser_tasks.runs import pipeline

    return ingested | pipeline.sequences(load(), ingested)


@step(**TRAINING, inlets=[lineage.HISTORIES], outlets=[lineage.CANDIDATES])
def train_reverse(sequenced: Refs) -> Refs:
    """CCG: train the backbone on *reversed* histories and let it propose N items that may have come before each.

    The pool R_u is in rank order; items of the user's history are left out.
    """
    from llmser_tasks.runs import pipeline

    return sequenced | pipeline.train_reverse(load(), sequenced)


@step(**TRAINING)
def train_forward(sequenced: Refs) -> Refs:
    """RCS: train the backbone forward on histories whose last item is masked.

    It has therefore not memorised the item that it later helps to guess.
    """
    from llmser_tasks.runs import pipeline

    return sequenced | pipeline.train_forward(load(), sequenced)


@step(**SHORT)
def plan_batches(reversed_: Refs, forward: Refs) -> Any:
    """Divide the users into batches: one mapped task each, at most 300 of them."""
    from llmser_tasks.runs import pipeline

    return pipeline.plan_batches(load(), reversed_ | forward)


@step(**SHORT)
def estimate(refs: Refs) -> Any:
    """Say how many calls and tokens the questions will take, and at what price, before any is asked.

    A run whose questions would cost more than its budget ends here, with nothing spent.
    """
    from llmser_tasks.runs import pipeline

    run = load()
    return pipeline.estimate(run, refs, endpoint(run))


@step(**ASKING, map_index_template="{{ task.op_kwargs['batch']['label'] }}")
def snf(refs: Refs, batch: Any) -> Any:
    """SNF: the LLM reads a user's titles and the N candidates and picks the M it believes in.

    Answers are kept one by one, so a cleared batch asks only for the users that have none. To rerun failed batches:
    filter the mapped tasks by *failed*, tick them, *Clear*.
    """
    from llmser_tasks.methods.llmser import snf
    from llmser_tasks.runs import pipeline

    run = load()
    return pipeline.ask(snf.STEP, run, refs, batch, endpoint(run))


@step(**DATA, trigger_rule=TriggerRule.NONE_FAILED, inlets=[lineage.CANDIDATES], outlets=[lineage.PSEUDO_ITEMS])
def pseudo_items(refs: Refs) -> Refs:
    """Turn the answers into pseudo-prior items, set before each history: the enhanced sequence S̃_u.

    The likeliest item stands next to the first real one.
    """
    from llmser_tasks.runs import pipeline

    return refs | pipeline.pseudo(load(), refs)


@step(**TRAINING)
def reason_pools(forward: Refs, pseudo: Refs) -> Refs:
    """RCS: the forward model's H likeliest items for the masked item of each user."""
    from llmser_tasks.runs import pipeline

    refs = forward | pseudo
    return refs | pipeline.reason_pools(load(), refs)


@step(**SHORT)
def plan(refs: Refs) -> Any:
    """Divide the users into batches again, for the second round of questions."""
    from llmser_tasks.runs import pipeline

    return pipeline.plan_batches(load(), refs)


@step(**ASKING, map_index_template="{{ task.op_kwargs['batch']['label'] }}")
def reason(refs: Refs, batch: Any) -> Any:
    """Reason: the LLM reads the enhanced, masked sequence and names the masked item among the H candidates.

    Kept and rerun like SNF's answers.
    """
    from llmser_tasks.methods.llmser import reason
    from llmser_tasks.runs import pipeline

    run = load()
    return pipeline.ask(reason.STEP, run, refs, batch, endpoint(run))


@step(
    **DATA,
    trigger_rule=TriggerRule.NONE_FAILED,
    inlets=[lineage.PSEUDO_ITEMS],
    outlets=lineage.tables("pseudo_items", "reliability"),
)
def reliability(refs: Refs) -> Refs:
    """ARV: how close the named title is to the masked one, as a cosine of BERT embeddings: ω_u.

    Weight decay makes it α_u: ω_u for tail users (n_u ≤ T), β·ω_u above. No usable answer means α_u = 0.
    """
    from llmser_tasks.runs import pipeline

    return refs | pipeline.reliability(load(), refs)


@step(**TRAINING, map_index_template="seed {{ task.op_kwargs['seed'] }}")
def train_base(sequenced: Refs, seed: Any) -> Refs:
    """The backbone alone, on plain histories: what LLMSeR is measured against."""
    from llmser_tasks.runs import pipeline

    return pipeline.train_base(load(), sequenced, seed)


@step(**TRAINING, map_index_template="seed {{ task.op_kwargs['seed'] }}")
def train_weighted(refs: Refs, seed: Any) -> Refs:
    """DCT (Eq. 9): the backbone on plain and enhanced histories, weighted per user by 1 − α_u and α_u."""
    from llmser_tasks.runs import pipeline

    return pipeline.train_weighted(load(), refs, seed)


@step(**DATA, inlets=[lineage.HISTORIES, lineage.PSEUDO_ITEMS], outlets=[lineage.EVALUATION])
def evaluate(refs: Refs, bases: Any, weighted: Any) -> Refs:
    """Rank every item for every user: base, LLMSeR, popularity and co-occurrence, by user and item groups."""
    from llmser_tasks.runs import pipeline

    refs = functools.reduce(operator.or_, [*bases, *weighted], refs)
    return refs | pipeline.evaluate(load(), refs)


@step(
    **DATA,
    inlets=[lineage.EVALUATION],
    outlets=lineage.tables("metrics", "comparisons", "recommendations", "reports"),
)
def publish(refs: Refs) -> None:
    """Write metrics, recommendations and the report to Postgres, in one transaction, and give readers the run.

    A run that does not get through its gate keeps its results, readers keep the run before, and whoever wants to know
    is told.
    """
    from llmser_tasks.runs import pipeline
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.engine import transaction
    from llmser_tasks.warehouse.tables import notices
    from llmser_tasks.warehouse.tables.notices import Notice

    run = load()
    kept_back = pipeline.publish(run, refs)
    if kept_back is not None and kept_back.by == "gate":  # an ablation or an older run is kept back by design
        why, url = kept_back.why, address.database_url()
        with transaction(url) as connection:
            notices.add(connection, Notice(run.run_id, "gate closed", why, run.dataset, why, kept_back.then))
        llmser_notice.deliver(url)


def datasets() -> list[str]:
    """Names the form offers."""
    home = Path(os.environ.get("LLMSER_HOME") or ".llmser")
    return form.dataset_names(Path(llmser_tasks.__file__).parent / "datasets", home / "datasets")


with DAG(
    dag_id="llmser",
    dag_display_name="LLMSeR",
    description="One dataset: dumps → augmented, weighted recommender → metrics and recommendations in Postgres",
    doc_md=__doc__
    + """
Trigger it with a dataset. What you leave empty is filled by the dataset's file, or else by a general default; what you
enter wins. Two runs of one dataset at once are safe: they share finished artefacts and wait for each other's locks.
When a batch of LLM questions fails, clear just that mapped task; everything below it goes on by itself.
""",
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=4,
    params={name: Param(**field) for name, field in form.fields(datasets())},
    default_args={"owner": "llmser", "on_failure_callback": failed, **llmser_retries.RETRIED},
    on_failure_callback=ended_badly,
    tags=["recommendation"],
) as dag:
    seeds = start()
    ingested = ingest()
    seeds >> ingested
    sequenced = sequences(ingested=ingested)

    # References grow along the way: each step hands on what it was given and adds its own.
    reverse = train_reverse(sequenced=sequenced)
    forward = train_forward(sequenced=sequenced)
    batches = plan_batches(reversed_=reverse, forward=forward)
    answers = snf.partial(refs=reverse).expand(batch=batches)
    batches >> estimate(refs=reverse) >> answers
    pseudo = pseudo_items(refs=reverse)
    answers >> pseudo

    pools = reason_pools(forward=forward, pseudo=pseudo)
    named = reason.partial(refs=pools).expand(batch=plan(refs=pools))
    scored = reliability(refs=pools)
    named >> scored

    bases = train_base.partial(sequenced=sequenced).expand(seed=seeds)
    weighted = train_weighted.partial(refs=scored).expand(seed=seeds)
    publish(refs=evaluate(refs=scored, bases=bases, weighted=weighted))
