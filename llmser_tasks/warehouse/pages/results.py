"""A run's figures: metrics of every model, LLMSeR against the base and against earlier runs, the histogram of ω."""

from __future__ import annotations

from llmser_tasks.warehouse.pages.reading import Row, of_run

STATEMENTS = {
    "metrics": (
        "select protocol, user_group, metric, model, avg(value) as mean, stddev_samp(value) as sd,"
        " count(*) as seeds, max(users) as users"
        " from metrics where run_id = :run group by protocol, user_group, metric, model"
        " order by protocol, user_group, metric, model"
    ),
    "comparisons": (
        "select protocol, user_group, metric, base, llmser, difference, low, high, level, p, p_holm,"
        " seeds, stars"
        " from comparisons where run_id = :run order by protocol, user_group, metric"
    ),
    "earlier": (
        "select e.earlier_run, r.started_at, e.protocol, e.user_group, e.metric, e.earlier, e.llmser, e.difference,"
        " e.low, e.high, e.level, e.p, e.p_holm, e.seeds, e.stars"
        " from earlier_comparisons e left join runs r on r.run_id = e.earlier_run"
        " where e.run_id = :run order by r.started_at desc, e.user_group, e.metric"
    ),
    "omega": (
        "select bucket, bucket / 20.0::float8 as omega_from, (bucket + 1) / 20.0::float8 as omega_to, outcome, users,"
        " omega_sum / users as mean_omega, alpha_sum / users as mean_alpha"
        " from omega_histogram where run_id = :run order by bucket, outcome"
    ),
}


def results(url: str, run_id: str) -> dict[str, list[Row]]:
    """All of STATEMENTS by name; empty lists where the run has not come so far."""
    return of_run(url, run_id, STATEMENTS)
