"""What is said of calls before any is made."""

from __future__ import annotations

from dataclasses import dataclass

from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.ratelimit import WINDOW_S


@dataclass(frozen=True)
class Estimate:
    """One step's questions, or texts to embed.

    Attributes:
        users: whom, or texts, it is about.
        questions: users about whom there is something to ask; distinct texts.
        answered: of these, whose answer the ledger holds.
        calls: what is left, those that users share once; a few texts go together.
        prompt_tokens, completion_tokens: of all calls.
        cost, most: expected, and if every answer is as long as it may be; None where no price is known.
        hours: at least, by the endpoint's limits per minute; None if it has none.
    """

    step: str
    users: int
    questions: int
    answered: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    most: float | None
    hours: float | None


def hours(calls: int, tokens: float, endpoint: Endpoint) -> float | None:
    """At the endpoint's limits per minute."""
    needed = [
        amount / limit * WINDOW_S / 3600
        for amount, limit in ((calls, endpoint.requests_per_minute), (tokens, endpoint.tokens_per_minute))
        if limit
    ]
    return max(needed, default=None)
