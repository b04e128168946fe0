"""Settings of CITIES."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmser_tasks.core.section import Section


class Cities(Section):
    """Rare items, inferred from their contexts."""

    heading: ClassVar[str] = "CITIES: vectors of rare items, inferred from what stands around them"

    cities_seen: int | None = Field(
        5,
        ge=1,
        description="Items that training histories have at most so often get inferred vectors, others teach how; empty:"
        " all tail items do, and head items teach. [released code]",
    )
    cities_contexts: int = Field(
        10, ge=1, le=1000, description="Most contexts of an item that are looked at together. [released code]"
    )
    cities_learning_rate: float = Field(1e-4, gt=0, le=1, description="Of what infers; Adam. [released code]")
