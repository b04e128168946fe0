"""Settings of the mended form."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmser_tasks.core.section import Section


class Mended(Section):
    """What it makes of the same pseudo items and answers."""

    heading: ClassVar[str] = "LLMSeR, mended"

    omega: Literal["above-chance", "cosine"] = Field(
        "above-chance",
        description="ω of llmser-mended: cosine is the paper's; above-chance takes off what a random candidate would"
        " have, c₀, and rescales: (cos - c₀) / (1 - c₀). [measured on Beauty and Gift Cards]",
    )
    mark: bool = Field(
        True,
        description="llmser-mended: pseudo items carry a vector of their own, which training begins with at zero, so"
        " that the model can tell them from real ones.",
    )
