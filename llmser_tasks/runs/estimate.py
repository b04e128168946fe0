"""What the questions of a run will cost, before any is asked.

A seeded sample of users is asked about as the run would ask, but nothing is sent: the questions are built, measured,
looked up in the ledger, and scaled to all users. How many bytes make a token, and how long an answer is, comes from
what the same model answered before; if it never did, from rules of thumb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from llmser_tasks.asking.questions import Inquiry, QuestionModule, inquiries
from llmser_tasks.core import environment
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import QUESTION_STEPS, STEPS
from llmser_tasks.core.run import Made, Refs, Run, left_out
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.llm.dialects import Dialect, recall, request_body
from llmser_tasks.llm.endpoint import RANKER_MODEL, Endpoint
from llmser_tasks.llm.estimate import Estimate, hours
from llmser_tasks.llm.fleet.ratelimit import BYTES_PER_TOKEN
from llmser_tasks.runs.checks import check, check_endpoint
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.changes import open_rows
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.tables import answers
from llmser_tasks.warehouse.tables.artefact_claims import Claims

SAMPLE = 1000  # users whose questions are built; their mean size is within 2 % of everybody's


def estimate(run: Run, refs: Refs, endpoint: Endpoint) -> list[Estimate]:
    """What texts an endpoint will embed, then every question step's questions, in order; those of parts that the run
    leaves out are not among them.

    What a step needs and is not there yet is stood in for: by the first items of what it will be like, else by items
    drawn by popularity, which are as long on average.

    Raises:
        InputError: the endpoint cannot give what it would be asked for.
    """
    check_endpoint(run.config, ranker=endpoint.model == RANKER_MODEL)
    config, known, histories = run.config, Catalogue.of_run(run, refs), Histories.of_run(run, refs)
    open_ = open_rows(run, refs)
    asking = np.arange(len(histories)) if open_ is None else open_
    rows = asking[np.unique(np.linspace(0, len(asking) - 1, min(SAMPLE, len(asking))).astype(np.int64))]
    sampled = histories.select(rows)
    asked: dict[str, list[Inquiry]] = {}
    given: dict[str, list[Ints]] = {}
    for step in [name for name in config.chain if name in QUESTION_STEPS]:
        module: QuestionModule = QUESTION_STEPS.load(step)
        for need in module.NEEDS:
            name, longest = need.artefact, need.longest(config)
            if name in refs:
                given[name] = list(Histories.read(run.folder(refs, name) / need.file).select(rows))
            elif need.like is not None:
                given[name] = [pool[:longest] for pool in given[need.like]]
            else:
                given[name] = _popular(histories, sampled, len(known.item_ids), longest, config.seed)
        if left_out(module, config) is None:
            own = {need.artefact: given[need.artefact] for need in module.NEEDS}
            asked[step] = inquiries(module, sampled, own, known, config)
    scaled = [_scaled(step, sample, len(asking), endpoint, run.warehouse) for step, sample in asked.items()]
    return [*_of_texts(run, refs), *scaled]


def _of_texts(run: Run, refs: Refs) -> list[Estimate]:
    """Of steps that have texts embedded and are not made yet."""
    found = []
    for name in [name for name in run.config.chain if name in STEPS and name not in refs]:
        module = STEPS.load(name)
        if hasattr(module, "estimate") and (cost := module.estimate(run, refs)) is not None:
            found.append(cost)
    return found


def before_training(
    workspace: Workspace,
    config: RunConfig,
    *,
    endpoint: Endpoint,
    warehouse: Warehouse,
    endpoint_of: Callable[[str], Endpoint] | None = None,
) -> list[Estimate]:
    """The same for a run that nobody has started: the dumps are read and split if they were not yet.

    Args:
        endpoint_of: where connections that embed texts are looked up; None: the run has none.

    Raises:
        InputError: the run could not come to anything.
    """
    check_endpoint(config, ranker=endpoint.model == RANKER_MODEL)
    run, refs = prepared(workspace, config, warehouse=warehouse, endpoint_of=endpoint_of)
    check(run, refs)
    return estimate(run, refs, endpoint)


def prepared(
    workspace: Workspace,
    config: RunConfig,
    *,
    warehouse: Warehouse,
    endpoint_of: Callable[[str], Endpoint] | None = None,
) -> tuple[Run, Made]:
    """A run that nobody has started, with its dumps read and split.

    Raises:
        InputError: they cannot be.
    """
    run = Run("", config, replace(workspace, claims=Claims(warehouse)), warehouse)
    if endpoint_of is not None:
        run = replace(run, endpoint_of=endpoint_of)
    made = sequences(run.workspace, config.dataset, ingest(run.workspace, config.dataset, inbox=environment.inbox()))
    return run, {name: artefact.reference() for name, artefact in made.items()}


def _popular(histories: Histories, sampled: Histories, items: int, size: int, seed: int) -> list[Ints]:
    """Per sampled user items that many chose and this user did not: stand-ins for candidates."""
    weights = histories.counts(items)[1:].astype(float)
    random = np.random.default_rng(seed)
    drawn = 1 + random.choice(items, size=(len(sampled), 2 * size), p=weights / weights.sum()).astype(np.int32)
    return [np.setdiff1d(row, history)[:size] for row, history in zip(drawn, sampled, strict=True)]


def _scaled(step: str, inquiries: Sequence[Inquiry], users: int, endpoint: Endpoint, warehouse: Warehouse) -> Estimate:
    questions = [inquiry.question for inquiry in inquiries if inquiry.question is not None]
    share = users / max(1, len(inquiries))
    keys = [question.key(endpoint.model, endpoint.parameters) for question in questions]
    settled = ledger.known(warehouse, list(set(keys)))
    open_ = {key: question for key, question in zip(keys, questions, strict=True) if key not in settled}
    usual = answers.lengths(warehouse, endpoint.model, step)
    dialect = recall(endpoint, warehouse) or Dialect()
    sizes = [len(request_body(endpoint, question, dialect)) for question in open_.values()]
    prompt = share * sum(sizes) / (usual.bytes_per_token or BYTES_PER_TOKEN)
    tokens = usual.completion
    if tokens is None and (dialect.room or endpoint.max_tokens):  # it thinks, whatever it is asked
        tokens = usual.of_any_step
    completion = share * sum(tokens or question.usual_tokens for question in open_.values())
    longest = share * sum(dialect.most_tokens(endpoint, question) for question in open_.values())
    calls = round(share * len(open_))
    return Estimate(
        step=step,
        users=users,
        questions=round(share * len(questions)),
        answered=round(share * sum(key in settled for key in keys)),
        calls=calls,
        prompt_tokens=round(prompt),
        completion_tokens=round(completion),
        cost=endpoint.cost(round(prompt), round(completion)),
        most=endpoint.cost(round(prompt), round(longest)),
        hours=hours(calls, prompt + longest, endpoint),
    )
