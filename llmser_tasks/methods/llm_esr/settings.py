"""Settings of LLM-ESR."""

from __future__ import annotations

from typing import ClassVar, Literal

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
    esr_cross_attention: Literal["plain", "residual"] = Field(
        "plain",
        description="How the two views look at each other: plain, as in the paper, puts what they see in the place of"
        " the items; residual adds it to them, from 0 on. [paper; residual measured on Beauty and Gift Cards]",
    )
