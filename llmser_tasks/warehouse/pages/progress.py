"""How far a run is: its steps with rate and time left, and every batch of LLM questions."""

from __future__ import annotations

from collections.abc import Collection

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS, USUAL
from llmser_tasks.core.names import ESTIMATE, LAST
from llmser_tasks.core.names import steps as steps_of
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.reading import Row, as_asked, first, rows
from llmser_tasks.warehouse.rows import storable
from llmser_tasks.warehouse.tables import acceptance
from llmser_tasks.warehouse.tables.batches import TOLD

RUN = """
    select r.run_id, r.dataset, run_state(state, owner) as state, synthetic,
           run_message(state, owner, message) as message, code_version, started_at, finished_at, budget,
           tail_threshold, unpublished, now.run_id as published_run, now.version as published_version,
           config ->> 'backbone' as backbone, config ->> 'endpoint' as endpoint, config -> 'seeds' as seeds,
           config -> 'methods' as methods, config as settings, chosen, chosen_by,
           exists (select from reports p where p.run_id = r.run_id) as has_report,
           extract(epoch from coalesce(finished_at, now()) - started_at)::float8 as seconds
    from runs r
    left join lateral (
        select run_id, version from publications p where p.dataset = r.dataset order by version desc limit 1
    ) now on true
    where r.run_id = :run
"""

# All parts of a step (user batches, seeds) together. A part that came back after a pause began its row anew.
STEP_ROWS = """
    select step, count(*) as parts, count(*) filter (where state in ('done', 'unchanged')) as parts_done,
           count(*) filter (where state = 'running') as parts_running,
           count(*) filter (where state = 'failed') as parts_failed,
           bool_and(state = 'unchanged') as unchanged,
           sum(done)::bigint as done, sum(total)::bigint as total, max(unit) as unit,
           (array_agg(note order by state <> 'failed', updated_at desc))[1] as note, max(peak_mib) as peak_mib,
           min(started_at) as started_at, max(updated_at) as updated_at,
           case when bool_and(finished_at is not null) then max(finished_at) end as finished_at,
           extract(epoch from coalesce(case when bool_and(finished_at is not null) then max(finished_at) end, now())
                              - min(started_at))::float8 as seconds,
           (sum(done) / nullif(extract(epoch from max(updated_at) - min(started_at)), 0))::float8 as rate
    from steps where run_id = :run group by step
"""
TRAINING_USERS = (
    "select (summary #>> '{training,users}')::bigint as users, summary -> 'askable' as askable"
    " from steps where run_id = :run and step = 'sequences'"
)
BATCHES = f"""
    select step, batch, label, users, answered, failed, accepted, accepted_at, calls, prompt_tokens,
           completion_tokens, cost, lost, state, {TOLD} as message, updated_at
    from batches where run_id = :run order by {as_asked()}, batch
"""  # noqa: S608, ours


def run(warehouse: Warehouse, run_id: str) -> Row:
    """The run's row, its steps in order (also those to come), whether any of them asks an LLM, its batches, and the
    users it went on without.

    Raises:
        InputError: there is no such run.
    """
    with transaction(warehouse) as connection:
        found = first(connection, RUN, run=storable(run_id))
        if found is None:
            raise InputError(f"There is no run {run_id!r} in the warehouse; a run is noted when its first task starts.")
        noted = {row["step"]: row for row in rows(connection, STEP_ROWS, run=run_id)}
        batches = rows(connection, BATCHES, run=run_id)
        trained = first(connection, TRAINING_USERS, run=run_id)
    accepted = acceptance.users(warehouse, run_id)
    planned = _planned(batches, trained["users"] if trained else None)
    settings = found.pop("settings")
    titles = steps_of([method for method in found["methods"] or USUAL if method in METHODS], settings)
    passed = set(titles) if found["state"] == "succeeded" else _passed(titles, noted)
    titles |= {step: step for step in noted if step not in titles}
    steps = [
        _step(name, title, noted.get(name), planned.get(name, 1), name in passed) for name, title in titles.items()
    ]
    return (
        found
        | {"steps": steps, "batches": batches, "planned": planned, "accepted": accepted}
        | {"askable": trained["askable"] if trained else None, "asks": any(step in QUESTION_STEPS for step in titles)}
    )


def _passed(steps: Collection[str], begun: Collection[str]) -> set[str]:
    """The steps that a run is at or past, as those that wait for them have begun."""
    passed, order = set(begun), list(steps)
    for name in reversed(order):
        if name not in passed:
            continue
        if name in LAST:
            passed.update(order[: order.index(name)])
        elif name in METHODS:
            passed.update({METHODS.model_of(name), *METHODS[name].needs})
        elif name in QUESTION_STEPS:
            passed.update({ESTIMATE, *QUESTION_STEPS[name].needs})
        elif name in STEPS:
            passed.update(STEPS[name].needs)
    return passed


def _step(name: str, title: str, row: Row | None, parts: int, passed: bool) -> Row:
    """A step as people read of it: state, share done, and seconds left at the rate so far.

    Args:
        parts: how many it will have; there are rows of those alone that have begun, so that the total of the others
            is taken to be as large.
        passed: the run is past it, so that one without a row had nothing to do.
    """
    if row is None:
        return {"step": name, "title": title, "state": "skipped" if passed else "waiting"}
    begun, total = row["parts"], row["total"]
    if total and begun < parts:
        total = round(total * parts / begun)
    state = _state(row, whole=begun >= parts)
    left = None
    if state == "running" and row["rate"] and total:
        left = max(total - row["done"], 0) / row["rate"]
    return row | {"title": title, "state": state, "total": total, "seconds_left": left}


def _state(row: Row, whole: bool) -> str:
    if row["parts_running"]:
        return "running"
    if row["parts_failed"]:
        return "failed"
    if row["unchanged"] and whole:
        return "unchanged"
    return "done" if whole else "running"


def _planned(batches: list[Row], users: int | None) -> dict[str, int]:
    """Per step, how many batches there will be: all are as large as the first, but for the last."""
    planned = {}
    for step in QUESTION_STEPS:
        sizes = [batch["users"] for batch in batches if batch["step"] == step]
        if sizes:
            planned[step] = max(-(-(users or 0) // max(sizes)) if max(sizes) else 0, len(sizes))
    return planned
