"""Settings of LLM-ESR."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmser_tasks.core.section import Section


class LlmEsr(Section):
    """Two views of items, and users who learn from their neighbours."""

    heading: ClassVar[str] = "LLM-ESR: two views of items, users who learn from their neighbours"

    esr_distillation: float = Field(
        0.1,
        ge=0,
        le=1000,
        description="α, weight of the distance (mean over the dimensions of a state) between a user and the neighbours."
        " [released code]",
    )
    esr_neighbours: int = Field(
        10, ge=1, le=1000, description="N, the nearest users that one learns from, at most neighbours. [paper]"
    )
