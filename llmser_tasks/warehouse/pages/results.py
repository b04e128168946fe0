"""A run's figures: metrics of every method, each against the reference, what each part brought, the published one
against earlier runs, the histogram of ω where the run has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.names import about_item_map, what_was_tried
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages.compared import compared
from llmser_tasks.warehouse.pages.reading import first, rows
from llmser_tasks.warehouse.queries import QUERIES
from llmser_tasks.warehouse.tables import steps

STATEMENTS = {
    "metrics": (
        "select protocol, user_group, metric, method, avg(value) as mean, stddev_samp(value) as sd,"
        " count(*) as seeds, max(users) as users"
        " from metrics where run_id = :run group by protocol, user_group, metric, method"
        " order by protocol, user_group, metric, method"
    ),
    "comparisons": (
        "select method, reference, protocol, user_group, metric, reference_mean, mean, difference, low, high, level, p,"
        " p_holm, seeds, stars"
        " from comparisons where run_id = :run order by method, protocol, user_group, metric"
    ),
    "rungs": QUERIES["rungs"],
    "item_maps": (
        "select method, seed, shares, silhouette, overlap, chance, heads, xs, ys from item_maps where run_id = :run"
    ),
    "tried": QUERIES["tried"],
    "earlier": (
        "select e.earlier_run, r.started_at, r.chosen as earlier_method, e.method, e.protocol, e.user_group, e.metric,"
        " e.earlier, e.mean, e.difference, e.low, e.high, e.level, e.p, e.p_holm, e.seeds, e.stars"
        " from earlier_comparisons e left join runs r on r.run_id = e.earlier_run"
        " where e.run_id = :run order by r.started_at desc, e.user_group, e.metric"
    ),
    "omega": (
        "select bucket, bucket / 20.0::float8 as omega_from, (bucket + 1) / 20.0::float8 as omega_to, outcome, users,"
        " omega_sum / users as mean_omega, alpha_sum / users as mean_alpha"
        " from omega_histogram where run_id = :run order by bucket, outcome"
    ),
}


CHOSEN = f"select chosen, chosen_by, {compared('r')} as method from runs r where run_id = :run"  # noqa: S608, ours
VALIDATIONS = "select method, ndcg from validations where run_id = :run"


def results(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    """All of STATEMENTS by name, empty lists where the run has not come so far; the method whose recommendations the
    run has (`chosen`), why (`chosen_by`, `validation`: method → N@10), and the one to show beside the reference
    (`method`); what a search came to, in a sentence (`told_of_search`; None: there was none).
    """
    with transaction(warehouse) as connection:
        found = {name: rows(connection, statement, run=run_id) for name, statement in STATEMENTS.items()}
        chosen = first(connection, CHOSEN, run=run_id) or {"chosen": None, "chosen_by": None, "method": None}
        validation = {row["method"]: row["ndcg"] for row in rows(connection, VALIDATIONS, run=run_id)}
    of_maps = [row | {"told": _told(row)} for row in found["item_maps"]]
    searched = steps.tried(warehouse, run_id)
    told = {"told_of_search": searched and what_was_tried(searched)}
    return found | chosen | told | {"validation": validation, "item_maps": of_maps}


def _told(row: Mapping[str, Any]) -> str:
    return about_item_map(*(row[name] for name in ("shares", "silhouette", "overlap", "chance")))
