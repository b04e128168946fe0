"""How the figures of a dataset move from run to run: better or worse, more or fewer users, dearer or cheaper.

What is followed is what a run recommends, by whichever method (`method`), beside the reference.
"""

from __future__ import annotations

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.reading import Row, rows
from llmser_tasks.warehouse.rows import storable

# The newest 50 runs that succeeded, oldest first, each with its change from the run before it.
DRIFT = """
    with newest as (
        select run_id, started_at, config ->> 'backbone' as backbone, code_version, chosen as method from runs
        where dataset = :dataset and state = 'succeeded' order by started_at desc limit 50
    ), figures as (
        select c.run_id, c.started_at, c.backbone, c.code_version, c.method, m.*, o.omega, o.users_scored,
               k.cost, k.calls, q.hallucination_rate,
               (s.summary #>> '{training,users}')::bigint as users,
               (s.summary #>> '{catalogue,items}')::bigint as items
        from newest c
        left join lateral (
            select max(users) as tested,
                   avg(value) filter (where method = :reference and metric = 'N@10') as "reference N@10",
                   avg(value) filter (where method = c.method and metric = 'N@10') as "N@10",
                   avg(value) filter (where method = :reference and metric = 'H@10') as "reference H@10",
                   avg(value) filter (where method = c.method and metric = 'H@10') as "H@10"
            from metrics m
            where m.run_id = c.run_id and protocol = 'full' and user_group = 'all' and metric in ('N@10', 'H@10')
        ) m on true
        left join lateral (
            select sum(omega_sum) / nullif(sum(h.users), 0) as omega, sum(h.users)::bigint as users_scored
            from omega_histogram h where h.run_id = c.run_id
        ) o on true
        left join lateral (
            select sum(cost) as cost, sum(calls)::bigint as calls from batches b where b.run_id = c.run_id
        ) k on true
        left join lateral (
            select (sum(invented) / nullif(sum(invented + strict + repaired + id_pattern + fuzzy), 0))::float8
                   as hallucination_rate
            from counted_answer_quality a where a.run_id = c.run_id
        ) q on true
        left join steps s on s.run_id = c.run_id and s.step = 'sequences' and s.part = ''
    )
    select *,
           "N@10" - lag("N@10") over earlier as "N@10 change",
           "reference N@10" - lag("reference N@10") over earlier as "reference N@10 change",
           users - lag(users) over earlier as users_change,
           items - lag(items) over earlier as items_change,
           omega - lag(omega) over earlier as omega_change
    from figures window earlier as (order by started_at)
    order by started_at
"""


# N@10 of every trained method of these runs, for the chart.
METHODS = """
    select m.run_id, m.method, avg(m.value) as mean from metrics m join runs r using (run_id)
    where m.run_id = any(:runs) and r.config -> 'methods' ? m.method and m.protocol = 'full' and m.user_group = 'all'
      and m.metric = 'N@10'
    group by m.run_id, m.method
"""


def drift(warehouse: Warehouse, dataset: str) -> list[Row]:
    """One row a run that succeeded, oldest first; `methods` is the N@10 of each method that it trained."""
    with transaction(warehouse) as connection:
        found = rows(connection, DRIFT, dataset=storable(dataset))
        means = rows(connection, METHODS, runs=[row["run_id"] for row in found])
    of_run: dict[str, dict[str, float]] = {row["run_id"]: {} for row in found}
    for row in means:
        of_run[row["run_id"]][row["method"]] = row["mean"]
    return [row | {"methods": of_run[row["run_id"]]} for row in found]
