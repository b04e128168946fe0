"""What answers of a model were like so far (table `answers`)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction

RECENT = 10_000  # answers of a model that tell its bytes per token

_LENGTHS = text("""
    select sum(prompt_bytes)::float8 / nullif(sum(prompt_tokens), 0) as bytes_per_token,
           (avg(completion_tokens) filter (where step = :step))::float8 as completion, -- thinking included
           avg(completion_tokens)::float8 as of_any_step
    from (select step, prompt_bytes, prompt_tokens, completion_tokens from answers
          where model = :model and prompt_bytes is not null and prompt_tokens is not null
          order by created_at desc limit :recent) a
""")


@dataclass(frozen=True)
class Lengths:
    """How long a model's prompts and answers are, on average; None where nothing is known.

    Attributes:
        bytes_per_token: of its prompts.
        completion: tokens of an answer to a step's questions, thinking included.
        of_any_step: tokens of an answer to any.
    """

    bytes_per_token: float | None
    completion: float | None
    of_any_step: float | None


def lengths(warehouse: Warehouse, model: str, step: str) -> Lengths:
    """Of the newest RECENT answers of a model."""
    with transaction(warehouse) as connection:
        return Lengths(*connection.execute(_LENGTHS, {"model": model, "step": step, "recent": RECENT}).one())
