"""One function per task of the DAG, and `run_all`, which calls them in order in one process.

Each takes references to artefacts (`refs`: name → `Artefact.reference()`) and returns those it made, small and
JSON-ready; each keeps its row in `steps`, where people follow it. A step whose result is there already says so.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from llmser_tasks import ingest as ingestion
from llmser_tasks.asking import ask as asking
from llmser_tasks.asking.questions import asked_steps
from llmser_tasks.core import config, environment
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError, LlmserError, StorageError, Waiting
from llmser_tasks.core.files import EMBEDDINGS
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS
from llmser_tasks.core.run import Made, Refs, Run, artefact, left_out, model_name
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.evaluation import evaluate as evaluation
from llmser_tasks.evaluation import publish as publishing
from llmser_tasks.ingest import report as ingest_report
from llmser_tasks.ingest.inbox import signature
from llmser_tasks.llm.endpoint import RANKER, Endpoint
from llmser_tasks.llm.prices import priced
from llmser_tasks.methods import adding, trained
from llmser_tasks.methods.making import StepModule
from llmser_tasks.ranker import child as embedded_ranker
from llmser_tasks.runs import refresh
from llmser_tasks.runs.checks import check, check_endpoint
from llmser_tasks.runs.estimate import estimate as estimate_questions
from llmser_tasks.sequences import artefacts as splitting
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.changes import FORMER, Changes, open_rows
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.liveness import living
from llmser_tasks.warehouse.tables import acceptance, failed_runs, publications, refreshes, runs
from llmser_tasks.warehouse.tables import batches as batch_rows
from llmser_tasks.warehouse.tables.artefact_claims import Claims
from llmser_tasks.warehouse.tables.failures import RUN, Failure, of_error
from llmser_tasks.warehouse.tables.steps import Recorder, recorded

log = logging.getLogger(__name__)


# Start and end -------------------------------------------------------------------------------------------------------


def start(
    run_id: str, values: Mapping[str, Any], *, workspace: Workspace, warehouse: Warehouse, owner: int | None = None
) -> Run:
    """Check the settings (flat names; the dataset's file fills what is not given) and note the run.

    Args:
        owner: number of the process that runs it; None: Airflow does.

    Raises:
        InputError: the run's id cannot be used, a setting is unknown or out of bounds, the endpoint cannot give what it
            would be asked for, the run exists with other settings, or somebody else is at work on it.
    """
    runs.usable(warehouse, run_id)
    made = environment.configuration(values)
    check_endpoint(made, ranker=made.llm.endpoint == RANKER)
    former = publications.current(warehouse, made.dataset.name) if made.refresh.incremental else None
    runs.create(
        warehouse,
        run_id,
        made.dataset.name,
        config.to_flat(made),
        budget=made.llm.budget,
        refreshes=former.run_id if former else None,
        owner=owner,
    )
    return load(run_id, workspace=workspace, warehouse=warehouse)


def load(
    run_id: str, *, workspace: Workspace, warehouse: Warehouse, endpoint_of: Callable[[str], Endpoint] | None = None
) -> Run:
    """The run as `start` noted it.

    Args:
        endpoint_of: where connections that embed texts are looked up; by default in the environment.

    Raises:
        InputError: there is none.
    """
    row = runs.load(warehouse, run_id)
    shared = replace(workspace, claims=Claims(warehouse))
    embedding = endpoint_of or partial(configured_endpoint, embeds=True)
    return Run(run_id, config.from_flat(row.settings), shared, warehouse, row.refreshes, embedding)


# Dumps to histories --------------------------------------------------------------------------------------------------


def ingest(run: Run) -> Made:
    """Dumps → interactions, users, items."""
    with _step(run, "ingest") as recorder:
        inbox = environment.inbox()
        there = signature(inbox, run.dataset)
        made = ingestion.ingest(run.workspace, run.config.dataset, recorder, inbox=inbox)
        facts = run.workspace.summary(made)
        log.info("%s.", ingest_report.line(run.dataset, facts))
        for warning in ingest_report.warnings(run.dataset, facts):
            log.warning("%s", warning)
        refreshes.taken_in(run.warehouse, run.dataset, run.run_id, there)
        if facts["synthetic"]:
            with transaction(run.warehouse) as connection:
                runs.mark_synthetic(connection, run.run_id)
        return _made(run, recorder, {"ingest": made})


def sequences(run: Run, refs: Refs) -> Made:
    """Interactions → training histories, validation targets, test targets, catalogue; in a refresh, what changed.

    Raises:
        InputError: the run could not come to anything.
    """
    with _step(run, "sequences") as recorder:
        made = splitting.sequences(run.workspace, run.config.dataset, artefact(refs, "ingest"), recorder)
        references = _made(run, recorder, made)
        for name in [name for name in run.config.chain if name in STEPS]:
            if hasattr(module := STEPS.load(name), "prepare"):
                module.prepare(run)
        check(run, references, lambda facts: recorder.summary({**(recorder.facts or {}), **facts}))
        runs.note_tail_threshold(run.warehouse, run.run_id, threshold_of(run, references))
    return references | (changes(run, references) if run.config.refresh.incremental else {})


def changes(run: Run, refs: Refs) -> Made:
    """What changed since the run that this one refreshes; nothing where nothing may be kept of it, which it says."""
    with _step(run, "changes") as recorder:
        try:
            earlier = refresh.refreshable(run.warehouse, run.workspace, run.refreshes, run.config)
            compared = refresh.compare(run, refs, earlier, recorder)
        except refresh.NothingKept as why:
            log.info("%s", why)
            recorder.summary({"full": str(why)})
            return {}
        references = _made(run, recorder, {"changes": compared})
        return references | {FORMER + name: made.reference() for name, made in earlier.made.items()}


# What methods are made of --------------------------------------------------------------------------------------------


def make(step: str, run: Run, refs: Refs) -> Made:
    """A step's artefact; nothing where none of the run's methods needs it, or the run leaves it out."""
    if step not in run.config.chain:
        return {}
    with _step(run, step) as recorder:
        module: StepModule = STEPS.load(step)
        if (without := left_out(module, run.config)) is not None:
            return _left_out(recorder, without)
        return _made(run, recorder, {step: module.make(run, refs, recorder)})


def plan_batches(run: Run, refs: Refs, step: str) -> list[dict[str, Any]]:
    """A question step's batches of users, one mapped task each; at most 300. In a refresh, who has not changed keeps
    what was picked.
    """
    if step not in run.config.chain:
        return []
    users = run.workspace.summary(artefact(refs, "training"))["users"]
    rows = open_rows(run, refs)
    if rows is not None:
        assert run.refreshes is not None
        changed = Changes.read(run.folder(refs, "changes"))
        refresh.take_over(run.warehouse, run.run_id, run.refreshes, changed, Catalogue.of_run(run, refs))
        users = len(rows)
    return [asdict(batch) for batch in asking.plan(users, run.config.llm.users_per_batch)]


def estimate(run: Run, refs: Refs, endpoint: Endpoint) -> list[dict[str, Any]]:
    """What the questions will cost, before any is asked.

    Raises:
        InputError: more than the run's budget.
    """
    if not asked_steps(run.config):
        return []
    with _step(run, "estimate") as recorder:
        estimates = estimate_questions(run, refs, endpoint)
        recorder.summary({each.step: asdict(each) for each in estimates})
        spent, budget = runs.spending(run.warehouse, run.run_id)
        expected = sum(each.cost or 0.0 for each in estimates)
        goes_on = acceptance.any_accepted(run.warehouse, run.run_id)  # less will be asked than this estimate says
        if budget is not None and spent + expected > budget and not goes_on:
            raise InputError(
                f"The questions of run {run.run_id} will cost about {expected:.4g}, and its budget has "
                f"{budget - spent:.4g} left; nothing was asked. `llmser budget {run.run_id} AMOUNT` raises it."
            )
        return [asdict(each) for each in estimates]


def ask(step: str, run: Run, refs: Refs, batch: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """A question step, for one batch of users."""
    part = asking.Batch(**batch)
    with _step(run, step, part.label) as recorder:
        if (without := left_out(QUESTION_STEPS.load(step), run.config)) is not None:
            return _left_out(recorder, without)
        counts = asking.ask_batch(run, refs, step, part, endpoint, open_rows(run, refs), recorder)
        recorder.summary(counts)
        return counts


# Recommenders and their figures --------------------------------------------------------------------------------------


def train(method: str, run: Run, refs: Refs, seed: int) -> Made:
    """A method's model, and what the run's methods add to its scores."""
    with _step(run, method, f"seed {seed}") as recorder:
        name = model_name(method, seed)
        made = _made(run, recorder, {name: trained.train(run, refs, method, seed, recorder)})
    for other in run.config.methods:
        if other != method and METHODS.model_of(other) == method:
            with _step(run, other, f"seed {seed}") as recorder:
                fitted = adding.fit(run, {**refs, **made}, other, seed, recorder)
                made |= _made(run, recorder, {model_name(other, seed): fitted})
    return made


def evaluate(run: Run, refs: Refs) -> Made:
    """Metrics, comparisons and recommendations."""
    with _step(run, "evaluation") as recorder:
        return _made(run, recorder, {"evaluation": evaluation.evaluate(run, refs, recorder)})


def publish(run: Run, refs: Refs) -> publications.KeptBack | None:
    """Metrics, comparisons, recommendations and the report into Postgres; the run has succeeded, and readers are given
    it unless something speaks against it, which the step says.

    Returns:
        What speaks against it.
    """
    with _step(run, "publish") as recorder:
        written, kept_back = publishing.publish(run, refs)
        recorder.summary(written | {"unpublished": kept_back and kept_back.told})
        return kept_back


# All of it -----------------------------------------------------------------------------------------------------------


def run_all(
    values: Mapping[str, Any],
    *,
    workspace: Workspace,
    warehouse: Warehouse,
    endpoint: Endpoint | None = None,
    run_id: str | None = None,
    again: str | None = None,
) -> str:
    """Take a dataset through the whole pipeline in this process; returns the run's id.

    Args:
        values: settings, flat names.
        endpoint: whom to ask; by default what the environment says, and for the embedded ranker one that runs for the
            length of the call.
        run_id: an existing run is taken up where it stopped; a new one is made up by default.
        again: what continues the run if it is interrupted, for its message; by default `llmser run` with its id.
    """
    run_id = new_run_id(values) if run_id is None else run_id
    with living(warehouse) as owner:
        run = start(run_id, values, workspace=workspace, warehouse=warehouse, owner=owner)
        try:
            with _reachable(run, endpoint) as reached:
                refs = augment(_embedding_there(run, reached), reached)
            compare(run, refs)
        except BaseException as error:
            with suppress(StorageError):  # what went wrong first is what people should read
                failed_runs.failed(warehouse, run.run_id, _why(error, again or _same_command(run_id)))
            raise
    return run.run_id


def _same_command(run_id: str) -> str:
    return f"the same command with --run-id {shlex.quote(run_id)}"


def _why(error: BaseException, again: str) -> Failure:
    if isinstance(error, LlmserError):
        return of_error(error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return Failure(RUN, -1, "interrupted", f"Interrupted; {again} continues it.")
    return Failure(RUN, -1, None, f"{type(error).__name__}; see the log.")


def augment(run: Run, endpoint: Endpoint) -> Made:
    """Everything before the first training of a method, in order; the endpoint is not needed beyond."""
    refs = ingest(run)
    refs |= sequences(run, refs)
    estimated = False
    for step in run.config.chain:
        if step not in QUESTION_STEPS:
            refs |= make(step, run, refs)
            continue
        batches = plan_batches(run, refs, step)
        if not estimated:
            estimate(run, refs, endpoint)
            estimated = True
        _asked(step, run, refs, batches, endpoint)
    return refs


def _asked(
    step: str,
    run: Run,
    refs: Refs,
    batches: Sequence[Mapping[str, Any]],
    endpoint: Endpoint,
) -> None:
    """Every batch of a step; those that a provider is at work on are looked at again until it is done.

    After a failure nothing more is asked: the batches that it kept from their turn are noted as failed with it.
    """
    open_ = list(batches)
    while open_:
        still = []
        for place, batch in enumerate(open_):
            try:
                ask(step, run, refs, batch, endpoint)
            except Waiting as waiting:
                still.append((batch, waiting.seconds))
            except LlmserError:
                _note_unasked(run, step, open_[place + 1 :])
                raise
        open_ = [batch for batch, _ in still]
        time.sleep(min((seconds for _, seconds in still), default=0))


def _note_unasked(run: Run, step: str, batches: Sequence[Mapping[str, Any]]) -> None:
    """Without it nobody could accept them."""
    with suppress(StorageError):  # what went wrong first is what people should read
        for batch in batches:
            part = asking.Batch(**batch)
            batch_rows.record_unasked(run.warehouse, run.run_id, step, part.batch, part.label, part.users)


def compare(run: Run, refs: Made) -> None:
    """The models of every method and seed, their figures, and the end of the run."""
    for seed in run.config.evaluation.seeds:
        for method in run.config.models:
            refs = refs | train(method, run, refs, seed)
    publish(run, refs | evaluate(run, refs))


@contextmanager
def _reachable(run: Run, endpoint: Endpoint | None) -> Iterator[Endpoint]:
    """The endpoint; the embedded ranker is started if nobody says where one runs and there is anything to ask."""
    name = run.config.llm.endpoint
    wanted = asked_steps(run.config) or run.config.texts.connection() == name
    if endpoint is not None:
        yield endpoint
    elif name == RANKER and not os.environ.get("LLMSER_RANKER_URL") and wanted:
        with embedded_ranker.running(run.workspace.root / EMBEDDINGS) as started:
            yield started
    else:
        yield configured_endpoint(name)


def _embedding_there(run: Run, endpoint: Endpoint) -> Run:
    """The run, with its texts embedded by the ranker that runs for it, if that is what embeds them."""

    def endpoint_of(name: str) -> Endpoint:
        found: Endpoint = endpoint if name == endpoint.name == RANKER else run.endpoint_of(name)
        return found

    return replace(run, endpoint_of=endpoint_of)


def configured_endpoint(name: str, *, embeds: bool = False) -> Endpoint:
    """The endpoint as the environment and the price table describe it.

    Args:
        embeds: it is to embed texts.

    Raises:
        InputError: they do not, or not well.
    """
    if name == RANKER and not os.environ.get("LLMSER_RANKER_URL"):
        return Endpoint.from_mapping(RANKER, "http://127.0.0.1/v1", None, {})  # it starts when it is needed
    return priced(Endpoint.from_environment(name, embeds=embeds), environment.home())


def new_run_id(values: Mapping[str, Any]) -> str:
    """`beauty-20250131T101500-3f9a`: sorts by time, says the dataset."""
    name = values.get("dataset", RunConfig().dataset.name)
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


# What the tasks share ------------------------------------------------------------------------------------------------


@contextmanager
def _step(run: Run, name: str, part: str = "") -> Iterator[Recorder]:
    with recorded(run.warehouse, run.run_id, name, part) as recorder:
        yield recorder


def _made(run: Run, recorder: Recorder, artefacts: Mapping[str, Artefact]) -> Made:
    """References to what a step made; its row says so, or that nothing had to be made."""
    summaries = {name: run.workspace.summary(artefact) for name, artefact in artefacts.items()}
    recorder.summary(next(iter(summaries.values())) if len(summaries) == 1 else summaries)
    if all(artefact.unchanged for artefact in artefacts.values()):
        recorder.unchanged()
    references = {name: artefact.reference() for name, artefact in artefacts.items()}
    recorder.artefacts(references)
    return references


def _left_out(recorder: Recorder, part: str) -> dict[str, Any]:
    """An ablation leaves this step nothing to do."""
    recorder.summary({"left_out": f"the run is without {part}"})
    return {}
