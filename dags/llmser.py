"""One run of this DAG takes one dataset through the whole of LLMSeR: from raw dumps to metrics and recommendations.

Wiring only. Every task calls a function of `llmser_tasks.runs.pipeline`, passes references to artefacts (never data),
and returns those it made. A step whose inputs, settings and code are unchanged ends at once and says so; one that
none of the run's methods needs is skipped.
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
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS, TRAINED, chain
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
    """A task that is called again after it was deferred, that is measured, and that says what its outlets are about."""

    def execute(self, context: Context, event: Any = None) -> Any:
        del event  # when it was resumed; everything else there is to know is in Postgres
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

    What the user has to mend fails at once, without retries, and with one sentence. While others are at work (a
    provider's Batch API) the task is deferred and its worker is free.
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
    """Keep in the warehouse why the task fails, here where it is known, until the task starts again."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

    from llmser_tasks.core.errors import StorageError
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.engine import transaction
    from llmser_tasks.warehouse.tables import failures

    warehouse, part = address.warehouse(), -1 if index is None else index
    failures.forget(warehouse, run_id, task, part)
    try:
        yield
    except (AirflowSkipException, TaskDeferred):
        raise
    except Exception as error:
        cause = error.__context__ if isinstance(error, AirflowFailException) else error
        with suppress(StorageError), transaction(warehouse) as connection:  # what went wrong first is what is raised
            failures.note(connection, run_id, failures.of_error(cause or error, task, part), name)
        raise


def dataset(context: Any) -> str:
    """The name of the run's dataset, as it was entered."""
    entered = getattr(context.get("dag_run"), "conf", None) or {}
    return str(entered.get("dataset") or config.RunConfig().dataset.name)


def load() -> Run:
    """The run as the task `start` noted it; once its failed tasks are cleared, it is no longer a failed one."""
    from airflow.sdk import get_current_context

    from llmser_tasks.core import environment
    from llmser_tasks.runs import pipeline
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs

    context = get_current_context()
    run_id, warehouse = context["run_id"], address.warehouse()
    if since := context["dag_run"].start_date:
        failed_runs.take_up(warehouse, run_id, since)
    embedding = functools.partial(connection, embeds=True)
    run = pipeline.load(run_id, workspace=environment.workspace(), warehouse=warehouse, endpoint_of=embedding)
    check_places(run)
    return run


def check_places(run: Run) -> None:
    """Whoever may trigger a run names files, but must not read the service user's own files that way."""
    from llmser_tasks.core import environment, places

    places.check(run.config, places.readable(environment.home()), environment.home())


def endpoint(run: Run) -> Endpoint:
    """Whom the run asks."""
    return connection(run.config.llm.endpoint)


def connection(name: str, *, embeds: bool = False) -> Endpoint:
    """An Airflow connection as an endpoint, of questions or of texts to embed; its password is the key."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from llmser_tasks.core import environment
    from llmser_tasks.llm.endpoint import Endpoint
    from llmser_tasks.llm.prices import priced
    from llmser_tasks.services.connections import endpoint_url

    try:
        there = Connection.get(name)
    except AirflowNotFoundException:
        found = Endpoint.from_environment(name, embeds=embeds)
    else:
        url = endpoint_url(there.host, there.port, there.schema)
        found = Endpoint.from_mapping(name, url, there.password, there.extra_dejson)
    return priced(found, environment.home())


def failed(context: Any) -> None:
    """A task has failed for good, and so has the run: sum up in the warehouse what failed.

    This and `ended_badly` may run in the DAG processor, which kills what takes long: they import little, and
    `llmser_tasks.runs.reconcile` finds what they miss.
    """
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs, failures

    error, ti = context.get("exception"), context.get("ti")
    if type(error).__name__ == "AirflowFailException":
        error = error.__context__ or error
    which = (getattr(ti, "task_id", failures.RUN), getattr(ti, "map_index", -1))
    why = failures.of_error(error if isinstance(error, BaseException) else None, *which)
    failed_runs.failed(address.warehouse(), context["run_id"], why, dataset(context))


def ended_badly(context: Any) -> None:
    """The run has failed: note it if no task could (it was killed, say), and tell whoever wants to know."""
    from llmser_tasks.warehouse import address
    from llmser_tasks.warehouse.tables import failed_runs

    warehouse, ended = address.warehouse(), getattr(context.get("dag_run"), "end_date", None)
    failed_runs.ended_badly(warehouse, context["run_id"], dataset=dataset(context), ended=ended)
    llmser_notice.deliver(warehouse)


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
    run = pipeline.start(context["run_id"], entered, workspace=environment.workspace(), warehouse=address.warehouse())
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


def merged(given: Any) -> Refs:
    """What tasks before this one made; one that was skipped made nothing."""
    return functools.reduce(operator.or_, (refs for refs in given if refs), {})


def make(name: str) -> Any:
    """The task of a step, which its file declares."""
    declared = STEPS[name]

    @step(
        task_id=name,
        doc_md=STEPS.about(name),
        trigger_rule=TriggerRule.NONE_FAILED,
        inlets=[lineage.HISTORIES, *(lineage.artefact(need) for need in declared.needs if need in STEPS)],
        outlets=[lineage.artefact(name), *lineage.tables(*declared.tables)],
        **(TRAINING if declared.trains or declared.ranks else DATA),
    )
    def made(given: Any) -> Refs:
        from llmser_tasks.runs import pipeline

        run = load()
        needed_by_none(run, name, name in run.config.chain)
        return pipeline.make(name, run, merged(given))

    return made


def needed_by_none(run: Run, what: str, wanted: bool) -> None:
    """Skip a task that the run's methods do not need."""
    from airflow.sdk.exceptions import AirflowSkipException

    if not wanted:
        raise AirflowSkipException(f"{what} is for none of the methods {', '.join(run.config.methods)}.")


def plan(name: str) -> Any:
    """The task that divides the users of a question step into batches."""

    @step(task_id=f"plan_{name}", trigger_rule=TriggerRule.NONE_FAILED, **SHORT)
    def planned(given: Any) -> Any:
        """Divide the users into batches: one mapped task each, at most 300 of them."""
        from llmser_tasks.runs import pipeline

        return pipeline.plan_batches(load(), merged(given), name)

    return planned


@step(trigger_rule=TriggerRule.NONE_FAILED, **SHORT)
def estimate(given: Any) -> Any:
    """Say how many calls and tokens the questions will take, and at what price, before any is asked.

    A run whose questions would cost more than its budget ends here, with nothing spent.
    """
    from llmser_tasks.runs import pipeline

    run = load()
    return pipeline.estimate(run, merged(given), endpoint(run))


def ask(name: str) -> Any:
    """The mapped task of a question step."""
    about = f"""{QUESTION_STEPS.about(name)}

Answers are kept one by one, so a cleared batch asks only for the users that have none. To rerun failed batches: filter
the mapped tasks by *failed*, tick them, *Clear*.
"""

    @step(
        task_id=name,
        doc_md=about,
        trigger_rule=TriggerRule.NONE_FAILED,
        map_index_template="{{ task.op_kwargs['batch']['label'] }}",
        **ASKING,
    )
    def asked(given: Any, batch: Any) -> Any:
        from llmser_tasks.runs import pipeline

        run = load()
        return pipeline.ask(name, run, merged(given), batch, endpoint(run))

    return asked


def plan_trainings(name: str) -> Any:
    """The task that says which trainings of a method the run has."""

    @step(task_id=f"plan_train_{name}", **SHORT)
    def planned(seeds: Any) -> Any:
        """The method with each of its item tables, a seed each; none if the run does not train it."""
        models = [model for model in load().config.models if METHODS.without_parts(model) == name]
        return [
            {"method": model, "seed": seed, "label": f"{METHODS[model].title}, seed {seed}"}
            for model in models
            for seed in seeds
        ]

    return planned


def train(name: str) -> Any:
    """The mapped task that trains a method, an instance an item table and seed, and fits what is added to scores."""

    @step(
        task_id=f"train_{name}",
        doc_md=METHODS.about(name),
        trigger_rule=TriggerRule.NONE_FAILED,
        map_index_template="{{ task.op_kwargs['training']['label'] }}",
        **TRAINING,
    )
    def trained(given: Any, training: Any) -> Refs:
        from llmser_tasks.runs import pipeline

        return pipeline.train(training["method"], load(), merged(given), training["seed"])

    return trained


@step(**DATA, trigger_rule=TriggerRule.NONE_FAILED, inlets=[lineage.HISTORIES], outlets=[lineage.EVALUATION])
def evaluate(given: Any, models: Any) -> Refs:
    """Rank every item for every user, by every method, and compare: all users, and groups of users and items."""
    from llmser_tasks.runs import pipeline

    refs = merged([*given, *(refs for of_method in models for refs in of_method or ())])
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
        why, warehouse = kept_back.why, address.warehouse()
        with transaction(warehouse) as connection:
            notices.add(connection, Notice(run.run_id, "gate closed", why, run.dataset, why, kept_back.then))
        llmser_notice.deliver(warehouse)


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

    # Whatever methods are made of, each task after those that it needs. What needs no answers is made before anything
    # is paid for.
    made: dict[str, Any] = {}
    unpaid: list[Any] = [sequenced]
    estimated: Any = None
    for name, declared in chain(METHODS.every()).items():
        needs = list(made) if declared.tries else declared.needs
        given = [sequenced, *(made[need] for need in needs if need in STEPS)]
        asked_before = [made[need] for need in needs if need in QUESTION_STEPS]
        if name in QUESTION_STEPS:
            estimated = estimate(given=unpaid) if estimated is None else estimated
            made[name] = ask(name).partial(given=given).expand(batch=plan(name)(given=given))
            estimated >> made[name]
            continue
        made[name] = make(name)(given=given)
        asked_before >> made[name]
        if estimated is None:
            unpaid.append(made[name])

    models = [
        train(name)
        .partial(given=[sequenced, *(made[need] for need in METHODS.needed_at_most(name))])
        .expand(training=plan_trainings(name)(seeds=seeds))
        for name in TRAINED
    ]
    outcomes = [made[name] for name in made if name in STEPS]
    publish(refs=evaluate(given=[sequenced, *outcomes], models=models))
