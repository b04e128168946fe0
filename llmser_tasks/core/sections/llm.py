"""The endpoint, and how it is asked."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmser_tasks.core.section import Section

CONNECTION = r"^[A-Za-z0-9_.-]{1,100}$"
CONNECTIONS = "up to 100 of a–z, A–Z, 0–9, -, _ and . (it is the id of an Airflow connection)"  # in words


class Llm(Section):
    """The endpoint and how it is asked. Its address and key come from the connection, never from here."""

    heading: ClassVar[str] = "LLM endpoint"

    endpoint: str = Field(
        "llmser_ranker",
        pattern=CONNECTION,
        description="Airflow connection (or environment entry) of the OpenAI-compatible endpoint; llmser_ranker is the embedded one.",
    )
    mode: Literal["online", "batch"] = Field(
        "online",
        description="online asks at once; batch hands the questions to the provider's Batch API: cheaper, up to a day.",
    )
    users_per_batch: int = Field(
        512, ge=1, le=100_000, description="Users per mapped task; raised where a run would need more than 300 tasks."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="[method: deterministic]")
    title_length: int = Field(160, ge=16, le=2000, description="Titles are cut to this many characters in a prompt.")
    history_length: int = Field(
        50, ge=1, le=1000, description="Newest history items shown; only the oldest are dropped. [method]"
    )
    budget: float | None = Field(
        None,
        ge=0,
        description="Most that the run may spend on questions, in the currency of the price table; empty: no limit.",
    )
    least_usable: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of a batch's answers that must be usable (name a candidate, or say something of the user); below"
        " it the endpoint talks nonsense and the batch fails.",
    )
    tolerated_failures: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of users per batch that may stay unanswered for a passing reason before the batch fails.",
    )
