"""What each batch of users cost at the LLM, over all attempts."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import text

from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import storable


def record(
    url: str,
    run_id: str,
    step: str,
    batch: int,
    label: str,
    users: int,
    *,
    state: Literal["running", "done", "failed"],
    answered: int = 0,
    failed: int = 0,
    calls: int = 0,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    cost: float | None = None,
    message: str | None = None,
) -> None:
    """Write how an attempt of a batch stands.

    Args:
        answered, failed: users, as they stand now; they replace what was there.
        calls, prompt_tokens, completion_tokens, cost: of this attempt since the last record; they add up.
    """
    with transaction(url) as connection:
        connection.execute(
            text(
                """
                insert into batches as b (run_id, step, batch, label, users, answered, calls, failed, prompt_tokens,
                                          completion_tokens, cost, state, message)
                values (:run, :step, :batch, :label, :users, :answered, :calls, :failed, :prompt_tokens,
                        :completion_tokens, :cost, :state, :message)
                on conflict (run_id, step, batch) do update set
                    label = excluded.label, users = excluded.users, answered = excluded.answered,
                    failed = excluded.failed, state = excluded.state, message = excluded.message, updated_at = now(),
                    calls = b.calls + excluded.calls,
                    prompt_tokens = b.prompt_tokens + excluded.prompt_tokens,
                    completion_tokens = b.completion_tokens + excluded.completion_tokens,
                    cost = case when b.cost is null then excluded.cost else b.cost + coalesce(excluded.cost, 0) end
                """
            ),
            {
                "run": run_id,
                "step": step,
                "batch": batch,
                "label": label,
                "users": users,
                "answered": answered,
                "failed": failed,
                "calls": calls,
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "cost": cost,
                "state": state,
                "message": None if message is None else storable(message),
            },
        )
