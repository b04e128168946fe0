"""The datasets with their latest run, and all runs, newest first.

Of each run the N@10 of the reference, and that of the method that stands beside it (`compared`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.compared import compared
from llmser_tasks.warehouse.pages.reading import Row, rows
from llmser_tasks.warehouse.rows import storable

RUNS_AT_ONCE = 25

# A loose index scan: one look at runs_by_dataset per dataset, however many runs each has.
DATASETS = f"""
    with recursive names as (
        (select dataset from runs order by dataset limit 1)
        union all
        select (select dataset from runs where dataset > names.dataset order by dataset limit 1)
        from names where names.dataset is not null
    )
    select names.dataset, latest.run_id, latest.state, latest.synthetic, latest.message, latest.started_at,
           latest.finished_at, latest.backbone, done.run_id as succeeded, done.chosen, done.method, figures.users,
           figures.reference_mean, figures.mean, c.difference, c.low, c.high, c.level, c.p_holm, c.seeds, c.stars,
           spent.cost, spent.calls, now.run_id as published_run, now.version as published_version
    from names
    cross join lateral (
        select run_id, run_state(state, owner) as state, synthetic, run_message(state, owner, message) as message,
               started_at, finished_at, config ->> 'backbone' as backbone
        from runs r where r.dataset = names.dataset order by started_at desc limit 1
    ) latest
    left join lateral (
        select run_id, chosen, {compared("r")} as method
        from runs r where r.dataset = names.dataset and r.state = 'succeeded'
        order by started_at desc limit 1
    ) done on true
    left join lateral (
        select max(users) as users, avg(value) filter (where m.method = :reference) as reference_mean,
               avg(value) filter (where m.method = done.method) as mean
        from metrics m
        where m.run_id = done.run_id and protocol = 'full' and user_group = 'all' and metric = 'N@10'
    ) figures on true
    left join comparisons c on c.run_id = done.run_id and c.method = done.method and c.protocol = 'full'
                           and c.user_group = 'all' and c.metric = 'N@10'
    left join lateral (
        select sum(cost) as cost, sum(calls)::bigint as calls from batches b where b.run_id = latest.run_id
    ) spent on true
    left join lateral (
        select run_id, version from publications p where p.dataset = names.dataset order by version desc limit 1
    ) now on true
    where names.dataset is not null
    order by latest.started_at desc
"""  # noqa: S608, ours

RUNS = f"""
    select r.run_id, r.dataset, run_state(r.state, r.owner) as state, r.synthetic,
           run_message(r.state, r.owner, r.message) as message, r.started_at, r.finished_at,
           r.config ->> 'backbone' as backbone, r.config ->> 'endpoint' as endpoint, r.chosen,
           shown.method, figures.reference_mean, figures.mean, b.failed, b.cost, now.version as published_version,
           r.unpublished is not null as kept_back
    from runs r
    cross join lateral (select {compared("r")} as method) shown
    left join lateral (
        select avg(value) filter (where m.method = :reference) as reference_mean,
               avg(value) filter (where m.method = shown.method) as mean
        from metrics m
        where m.run_id = r.run_id and protocol = 'full' and user_group = 'all' and metric = 'N@10'
    ) figures on true
    left join lateral (
        select count(*) filter (where state = 'failed') as failed, sum(cost) as cost
        from batches b where b.run_id = r.run_id
    ) b on true
    left join lateral (
        select run_id, version from publications p where p.dataset = r.dataset order by version desc limit 1
    ) now on now.run_id = r.run_id
    {{where}} order by r.started_at desc, r.run_id desc limit :most
"""  # noqa: S608, ours
BEFORE = "(r.started_at, r.run_id) < (cast(:moment as timestamptz), cast(:run as text))"


def datasets(warehouse: Warehouse) -> list[Row]:
    """One row a dataset: its latest run, and the figures of its latest run that succeeded."""
    with transaction(warehouse) as connection:
        return rows(connection, DATASETS)


def runs(warehouse: Warehouse, *, dataset: str | None = None, before: tuple[datetime, str] | None = None) -> list[Row]:
    """The next RUNS_AT_ONCE runs, newest first, of all datasets or of one.

    Args:
        before: start and id of the last run already shown.
    """
    conditions: dict[str, dict[str, Any]] = {}
    if dataset is not None:
        conditions["r.dataset = :dataset"] = {"dataset": storable(dataset)}
    if before is not None:
        conditions[BEFORE] = {"moment": before[0], "run": storable(before[1])}
    where = "where " + " and ".join(conditions) if conditions else ""
    values = {name: value for given in conditions.values() for name, value in given.items()}
    with transaction(warehouse) as connection:
        return rows(connection, RUNS.format(where=where), **values, most=RUNS_AT_ONCE)
