"""What a run's questions cost, by step and by group of users, and how far the answers could be used."""

from __future__ import annotations

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.pages.reading import Row, as_asked, of_run

STATEMENTS = {
    "costs": (
        "select step, users::bigint, answered::bigint, failed::bigint, calls::bigint, prompt_tokens::bigint,"  # noqa: S608, ours
        f" completion_tokens::bigint, cost, lost from run_costs where run_id = :run order by {as_asked()}"
    ),
    "group-costs": (
        "select step, user_group, users, answers_paid::float8, prompt_tokens, completion_tokens, cost,"  # noqa: S608, ours
        " cost / nullif(users, 0) as cost_per_user"
        f" from counted_group_costs where run_id = :run order by {as_asked()}, user_group"
    ),
    # Hallucinated: of all that was named, what is no candidate. Mended: of all picks, those not read as agreed.
    "answer-quality": (
        "select step, answered_by, users, without_picks, invented::bigint, strict::bigint, repaired::bigint,"  # noqa: S608
        " id_pattern::bigint, fuzzy::bigint, fill::bigint,"
        " (invented / nullif(invented + strict + repaired + id_pattern + fuzzy, 0))::float8 as hallucination_rate,"
        " ((repaired + id_pattern + fuzzy) / nullif(strict + repaired + id_pattern + fuzzy, 0))::float8 as repair_rate,"
        " (without_picks / nullif(users, 0)::float8) as unusable_rate"
        f" from counted_answer_quality where run_id = :run order by {as_asked()}, answered_by"
    ),
}


def costs(warehouse: Warehouse, run_id: str) -> dict[str, list[Row]]:
    """All of STATEMENTS by name; the last two are counted once the run's reliability is known."""
    return of_run(warehouse, run_id, STATEMENTS)
