"""One function per task of the DAG, and `run_all`, which calls them in order in one process.

Each takes references to artefacts (`refs`: name → `Artefact.reference()`) and returns those it made, small and
JSON-ready; each keeps its row in `steps`, where people follow it. A step whose result is there already says so.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import ingest as ingestion
from llmser_tasks.asking import ask as asking
from llmser_tasks.asking.askable import FEW, Askable
from llmser_tasks.asking.picks import Picks
from llmser_tasks.core import config, environment
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError, LlmserError, StorageError, Waiting
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.core.run import Made, Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.evaluation import evaluate as evaluation
from llmser_tasks.evaluation import publish as publishing
from llmser_tasks.ingest import report as ingest_report
from llmser_tasks.ingest.inbox import signature
from llmser_tasks.llm.endpoint import RANKER, Endpoint
from llmser_tasks.llm.prices import priced
from llmser_tasks.methods import base
from llmser_tasks.methods.llmser import ccg, method, rcs, reason, record, score, snf
from llmser_tasks.methods.llmser import pseudo as pseudo_prior
from llmser_tasks.methods.training import earlier
from llmser_tasks.methods.warm import Start
from llmser_tasks.ranker import child as embedded_ranker
from llmser_tasks.runs import refresh
from llmser_tasks.runs.estimate import estimate as estimate_questions
from llmser_tasks.sequences import artefacts as splitting
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.changes import Changes, Former
from llmser_tasks.sequences.enough import check_enough
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.encoder import Encoder, locate
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.liveness import living
from llmser_tasks.warehouse.tables import acceptance, failed_runs, publications, refreshes, runs
from llmser_tasks.warehouse.tables import batches as batch_rows
from llmser_tasks.warehouse.tables.artefact_claims import Claims
from llmser_tasks.warehouse.tables.failures import RUN, Failure, of_error
from llmser_tasks.warehouse.tables.steps import Recorder, recorded

log = logging.getLogger(__name__)

FORMER = "former/"  # before the names of artefacts of the run that this one refreshes


# Start and end -------------------------------------------------------------------------------------------------------


def start(
    run_id: str, values: Mapping[str, Any], *, workspace: Workspace, database_url: str, owner: int | None = None
) -> Run:
    """Check the settings (flat names; the dataset's file fills what is not given) and note the run.

    Args:
        owner: number of the process that runs it; None: Airflow does.

    Raises:
        InputError: the run's id cannot be used, a setting is unknown or out of bounds, the run exists with others, or
            somebody else is at work on it.
    """
    runs.usable(database_url, run_id)
    made = environment.configuration(values)
    former = publications.current(database_url, made.dataset.name) if made.refresh.incremental else None
    runs.create(
        database_url,
        run_id,
        made.dataset.name,
        config.to_flat(made),
        budget=made.llm.budget,
        refreshes=former.run_id if former else None,
        owner=owner,
    )
    return load(run_id, workspace=workspace, database_url=database_url)


def load(run_id: str, *, workspace: Workspace, database_url: str) -> Run:
    """The run as `start` noted it.

    Raises:
        InputError: there is none.
    """
    row = runs.load(database_url, run_id)
    shared = replace(workspace, claims=Claims(database_url))
    return Run(run_id, config.from_flat(row.settings), shared, database_url, row.refreshes)


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
        refreshes.taken_in(run.database_url, run.dataset, run.run_id, there)
        if facts["synthetic"]:
            with transaction(run.database_url) as connection:
                runs.mark_synthetic(connection, run.run_id)
        return _made(run, recorder, {"ingest": made})


def sequences(run: Run, refs: Refs) -> Made:
    """Interactions → training histories, validation targets, test targets, catalogue; in a refresh, what changed."""
    with _step(run, "sequences") as recorder:
        made = splitting.sequences(run.workspace, run.config.dataset, artefact(refs, "ingest"), recorder)
        references = _made(run, recorder, made)
        check_enough(run.workspace, run.config, made)
        if not run.config.without("arv"):
            locate(run.config.reliability.encoder)  # one that is not there must not be missed after all was paid for
        runs.note_tail_threshold(run.database_url, run.run_id, _tail_threshold(run, references))
        _someone_to_ask(run, made, recorder)
    return references | (changes(run, references) if run.config.refresh.incremental else {})


def _someone_to_ask(run: Run, made: Mapping[str, Artefact], recorder: Recorder) -> None:
    """Note of how many users anything can be asked.

    Raises:
        InputError: of none, so that LLMSeR would be the base and all that follows would be for nothing.
    """
    histories = Histories.read(run.workspace.folder(made["training"]) / "histories.parquet")
    found = Askable.of(histories, Catalogue.read(run.workspace.folder(made["catalogue"])), run.config)
    recorder.summary({**(recorder.facts or {}), "askable": asdict(found)})
    found.check(run.dataset)
    if found.gaining < FEW * found.users:
        log.warning("%s.", found.sentence())


def changes(run: Run, refs: Refs) -> Made:
    """What changed since the run that this one refreshes; nothing where nothing may be kept of it, which it says."""
    with _step(run, "changes") as recorder:
        try:
            former = refresh.earlier(run.database_url, run.workspace, run.refreshes, run.config)
            compared = refresh.compare(
                run.database_url,
                run.workspace,
                run.config,
                former,
                training=artefact(refs, "training"),
                catalogue=artefact(refs, "catalogue"),
                progress=recorder,
            )
        except refresh.NothingKept as why:
            log.info("%s", why)
            recorder.summary({"full": str(why)})
            return {}
        references = _made(run, recorder, {"changes": compared})
        return references | {FORMER + name: made.reference() for name, made in former.made.items()}


# Augmentation --------------------------------------------------------------------------------------------------------


def train_reverse(run: Run, refs: Refs) -> Made:
    """CCG: the reverse model (not without CCG) and every user's candidate pool."""
    training, items = artefact(refs, "training"), _items(run, refs)
    made: Made = {}
    reverse = None
    if not run.config.without("ccg"):
        with _step(run, "reverse") as recorder:
            reverse = ccg.train_reverse(
                run.workspace,
                run.dataset,
                run.config.recommender,
                training=training,
                items=items,
                seed=run.config.seed,
                former=_former(run, refs),
                progress=recorder,
            )
            made |= _made(run, recorder, {"reverse": reverse})
    with _step(run, "ccg") as recorder:
        pools = ccg.candidate_pools(
            run.workspace,
            run.dataset,
            run.config.augmentation.pool,
            training=training,
            items=items,
            seed=run.config.seed,
            reverse=reverse,
            former=_former(run, refs),
            progress=recorder,
        )
        return made | _made(run, recorder, {"ccg": pools})


def plan_batches(run: Run, refs: Refs) -> list[dict[str, Any]]:
    """Batches of users, one mapped task each; at most 300. In a refresh, who has not changed keeps what was picked."""
    users = run.workspace.summary(artefact(refs, "training"))["users"]
    open_rows = _open_rows(run, refs)
    if open_rows is not None:
        assert run.refreshes is not None
        folder = run.workspace.folder(artefact(refs, "changes"))
        catalogue = Catalogue.read(run.workspace.folder(artefact(refs, "catalogue")))
        refresh.take_over(run.database_url, run.run_id, run.refreshes, Changes.read(folder), catalogue)
        users = len(open_rows)
    return [asdict(batch) for batch in asking.plan(users, run.config.llm.users_per_batch)]


def estimate(run: Run, refs: Refs, endpoint: Endpoint) -> list[dict[str, Any]]:
    """What the questions will cost, before any is asked.

    Raises:
        InputError: more than the run's budget.
    """
    with _step(run, "estimate") as recorder:
        estimates = estimate_questions(
            run.workspace,
            run.config,
            training=artefact(refs, "training"),
            catalogue=artefact(refs, "catalogue"),
            ccg=artefact(refs, "ccg"),
            endpoint=endpoint,
            database_url=run.database_url,
            open_rows=_open_rows(run, refs),
        )
        recorder.summary({each.step: asdict(each) for each in estimates})
        spent, budget = runs.spending(run.database_url, run.run_id)
        expected = sum(each.cost or 0.0 for each in estimates)
        goes_on = acceptance.any_accepted(run.database_url, run.run_id)  # less will be asked than this estimate says
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
        if (without := QUESTION_STEPS.load(step).left_out(run.config)) is not None:
            return _left_out(recorder, without)
        counts = asking.ask_batch(run, refs, step, part, endpoint, _open_rows(run, refs), recorder)
        recorder.summary(counts)
        return counts


def pseudo(run: Run, refs: Refs) -> Made:
    """What was picked → pseudo-prior items."""
    with _step(run, "pseudo") as recorder:
        made = pseudo_prior.pseudo_items(
            run.workspace,
            run.dataset,
            run.config.augmentation,
            ccg=artefact(refs, "ccg"),
            picks=None if snf.left_out(run.config) else _picks(run, refs, snf.STEP),
            progress=recorder,
        )
        return _made(run, recorder, {"pseudo": made})


# Reliability ---------------------------------------------------------------------------------------------------------


def train_forward(run: Run, refs: Refs) -> Made:
    """RCS: the forward model. Without ARV or RCS there is none."""
    with _step(run, "forward") as recorder:
        if run.config.without("arv") or run.config.without("rcs"):
            return _left_out(recorder, "ARV" if run.config.without("arv") else "RCS")
        made = rcs.train_forward(
            run.workspace,
            run.dataset,
            run.config.recommender,
            training=artefact(refs, "training"),
            items=_items(run, refs),
            seed=run.config.seed,
            on_full=run.config.reliability.forward_on_full,
            former=_former(run, refs),
            progress=recorder,
        )
        return _made(run, recorder, {"forward": made})


def reason_pools(run: Run, refs: Refs) -> Made:
    """RCS: every user's candidates for the masked item. Without ARV there are none."""
    with _step(run, "rcs") as recorder:
        if run.config.without("arv"):
            return _left_out(recorder, "ARV")
        made = rcs.reason_pools(
            run.workspace,
            run.dataset,
            run.config.reliability.reason_pool,
            training=artefact(refs, "training"),
            pseudo=artefact(refs, "pseudo"),
            items=_items(run, refs),
            seed=run.config.seed,
            forward=None if run.config.without("rcs") else artefact(refs, "forward"),
            former=_former(run, refs),
            progress=recorder,
        )
        return _made(run, recorder, {"rcs": made})


def reliability(run: Run, refs: Refs) -> Made:
    """ARV and weight decay: ω and α of every user, into the artefact store and Postgres."""
    with _step(run, "reliability") as recorder:
        named_by: Picks | Artefact | None = None
        if not run.config.without("arv"):
            without_reason = run.config.without("reason")
            named_by = artefact(refs, "rcs") if without_reason else _picks(run, refs, reason.STEP)
        made = score.score(
            run.workspace,
            run.dataset,
            training=artefact(refs, "training"),
            catalogue=artefact(refs, "catalogue"),
            pseudo=artefact(refs, "pseudo"),
            named_by=named_by,
            tail_threshold=_tail_threshold(run, refs),
            beta=1.0 if run.config.without("wd") else run.config.reliability.beta,
            encoder=None if named_by is None else Encoder.open(run.config.reliability.encoder),
            cache=run.workspace.root / "embeddings",
            progress=recorder,
        )
        record.record(
            run.database_url,
            run.run_id,
            run.workspace,
            training=artefact(refs, "training"),
            catalogue=artefact(refs, "catalogue"),
            pseudo=artefact(refs, "pseudo"),
            reliability=made,
        )
        return _made(run, recorder, {"reliability": made})


# Recommenders and their figures --------------------------------------------------------------------------------------


def train_base(run: Run, refs: Refs, seed: int) -> Made:
    """The backbone on histories alone."""
    with _step(run, "base", f"seed {seed}") as recorder:
        made = base.train(
            run.workspace,
            run.dataset,
            run.config.recommender,
            training=artefact(refs, "training"),
            validation=artefact(refs, "validation"),
            items=_items(run, refs),
            seed=seed,
            start=_earlier_model(run, refs, f"base/{seed}"),
            progress=recorder,
        )
        return _made(run, recorder, {f"base/{seed}": made})


def train_weighted(run: Run, refs: Refs, seed: int) -> Made:
    """DCT: the backbone on histories and enhanced sequences, weighted by α."""
    with _step(run, "weighted", f"seed {seed}") as recorder:
        made = method.train(
            run.workspace,
            run.dataset,
            run.config.recommender,
            training=artefact(refs, "training"),
            validation=artefact(refs, "validation"),
            pseudo=artefact(refs, "pseudo"),
            reliability=artefact(refs, "reliability"),
            pseudo_targets=run.config.reliability.pseudo_targets,
            enhance_inference=run.config.reliability.enhance_inference,
            items=_items(run, refs),
            seed=seed,
            start=_earlier_model(run, refs, f"weighted/{seed}"),
            progress=recorder,
        )
        return _made(run, recorder, {f"weighted/{seed}": made})


def evaluate(run: Run, refs: Refs) -> Made:
    """Metrics, comparisons and recommendations."""
    names = [f"{kind}/{seed}" for kind in ("base", "weighted") for seed in run.config.evaluation.seeds]
    with _step(run, "evaluation") as recorder:
        made = evaluation.evaluate(
            run.workspace,
            run.dataset,
            run.config,
            training=artefact(refs, "training"),
            validation=artefact(refs, "validation"),
            test=artefact(refs, "test"),
            catalogue=artefact(refs, "catalogue"),
            pseudo=artefact(refs, "pseudo"),
            models={name: artefact(refs, name) for name in names},
            tail_threshold=_tail_threshold(run, refs),
            progress=recorder,
        )
        return _made(run, recorder, {"evaluation": made})


def publish(run: Run, refs: Refs) -> publications.KeptBack | None:
    """Metrics, comparisons, recommendations and the report into Postgres; the run has succeeded, and readers are given
    it unless something speaks against it, which the step says.

    Returns:
        What speaks against it.
    """
    with _step(run, "publish") as recorder:
        chosen = [artefact(refs, f"weighted/{seed}") for seed in run.config.evaluation.seeds]
        validation = fmean(run.workspace.summary(model)["ndcg"] for model in chosen)
        report = run.workspace.folder(artefact(refs, "ingest")) / "report.json"
        written, kept_back = publishing.publish(
            run.database_url,
            run.run_id,
            run.workspace,
            evaluation=artefact(refs, "evaluation"),
            catalogue=artefact(refs, "catalogue"),
            pseudo=artefact(refs, "pseudo"),
            reliability=artefact(refs, "reliability"),
            training=artefact(refs, "training"),
            ingest_report=json.loads(report.read_text(encoding="utf-8")),
            validation=validation,
            config=run.config,
        )
        recorder.summary(written | {"unpublished": kept_back and kept_back.told})
        return kept_back


# All of it -----------------------------------------------------------------------------------------------------------


def run_all(
    values: Mapping[str, Any],
    *,
    workspace: Workspace,
    database_url: str,
    endpoint: Endpoint | None = None,
    run_id: str | None = None,
) -> str:
    """Take a dataset through the whole pipeline in this process; returns the run's id.

    Args:
        values: settings, flat names.
        endpoint: whom to ask; by default what the environment says, and for the embedded ranker one that runs for the
            length of the call.
        run_id: an existing run is taken up where it stopped; a new one is made up by default.
    """
    run_id = new_run_id(values) if run_id is None else run_id
    with living(database_url) as owner:
        run = start(run_id, values, workspace=workspace, database_url=database_url, owner=owner)
        try:
            with _reachable(run, endpoint) as reached:
                refs = augment(run, reached)
            compare(run, refs)
        except BaseException as error:
            with suppress(StorageError):  # what went wrong first is what people should read
                failed_runs.failed(database_url, run.run_id, _why(error, run.run_id))
            raise
    return run.run_id


def _why(error: BaseException, run_id: str) -> Failure:
    if isinstance(error, LlmserError):
        return of_error(error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        sentence = f"Interrupted; the same command with --run-id {shlex.quote(run_id)} continues it."
        return Failure(RUN, -1, "interrupted", sentence)
    return Failure(RUN, -1, None, f"{type(error).__name__}; see the log.")


def augment(run: Run, endpoint: Endpoint) -> Made:
    """Everything up to α, in order; the endpoint is not needed beyond."""
    refs = ingest(run)
    refs |= sequences(run, refs)
    refs |= train_reverse(run, refs)
    refs |= train_forward(run, refs)
    batches = plan_batches(run, refs)
    estimate(run, refs, endpoint)
    _asked(snf.STEP, run, refs, batches, endpoint)
    refs |= pseudo(run, refs)
    refs |= reason_pools(run, refs)
    _asked(reason.STEP, run, refs, batches, endpoint)
    return refs | reliability(run, refs)


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
            batch_rows.record_unasked(run.database_url, run.run_id, step, part.batch, part.label, part.users)


def compare(run: Run, refs: Made) -> None:
    """The base and the weighted recommender of every seed, their figures, and the end of the run."""
    for seed in run.config.evaluation.seeds:
        refs = refs | train_base(run, refs, seed) | train_weighted(run, refs, seed)
    publish(run, refs | evaluate(run, refs))


@contextmanager
def _reachable(run: Run, endpoint: Endpoint | None) -> Iterator[Endpoint]:
    """The endpoint to ask; the embedded ranker is started if nobody says where one runs."""
    name = run.config.llm.endpoint
    if endpoint is not None:
        yield endpoint
    elif name == RANKER and not os.environ.get("LLMSER_RANKER_URL"):
        with embedded_ranker.running(run.workspace.root / "embeddings") as started:
            yield started
    else:
        yield configured_endpoint(name)


def configured_endpoint(name: str) -> Endpoint:
    """The endpoint as the environment and the price table describe it.

    Raises:
        InputError: they do not, or not well.
    """
    if name == RANKER and not os.environ.get("LLMSER_RANKER_URL"):
        return Endpoint.from_mapping(RANKER, "http://127.0.0.1/v1", None, {})  # it starts when it is needed
    return priced(Endpoint.from_environment(name), environment.home())


def new_run_id(values: Mapping[str, Any]) -> str:
    """`beauty-20250131T101500-3f9a`: sorts by time, says the dataset."""
    name = values.get("dataset", RunConfig().dataset.name)
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


# What the tasks share ------------------------------------------------------------------------------------------------


@contextmanager
def _step(run: Run, name: str, part: str = "") -> Iterator[Recorder]:
    with recorded(run.database_url, run.run_id, name, part) as recorder:
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


def _items(run: Run, refs: Refs) -> int:
    return ccg.catalogue_size(run.workspace, artefact(refs, "catalogue"))


def _tail_threshold(run: Run, refs: Refs) -> int:
    threshold: int = run.workspace.summary(artefact(refs, "training"))["tail_threshold"]
    return threshold


def _former(run: Run, refs: Refs) -> Former | None:
    """The run that this one refreshes, where something of it is kept."""
    if "changes" not in refs:
        return None
    made = {name.removeprefix(FORMER): artefact(refs, name) for name in refs if name.startswith(FORMER)}
    return Former(artefact(refs, "changes"), made, run.config.refresh.warm_epochs)


def _earlier_model(run: Run, refs: Refs, name: str) -> Start | None:
    given = {part: artefact(refs, part) for part in ("catalogue", "training", "validation")}
    return earlier(run.workspace, _former(run, refs), name, **given)


def _open_rows(run: Run, refs: Refs) -> NDArray[np.int64] | None:
    """Rows of the training users who are asked; None: everybody is."""
    if "changes" not in refs:
        return None
    return np.flatnonzero(~Changes.read(run.workspace.folder(artefact(refs, "changes"))).kept)


def _picks(run: Run, refs: Refs, step: str) -> Picks:
    catalogue = Catalogue.read(run.workspace.folder(artefact(refs, "catalogue")))
    return Picks.read(run.database_url, run.run_id, step, catalogue)
