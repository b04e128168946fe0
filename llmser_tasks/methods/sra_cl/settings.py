"""Settings of SRA-CL."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmser_tasks.core.section import Section


class SraCl(Section):
    """Two contrasts, beside next items."""

    heading: ClassVar[str] = "SRA-CL: contrast with users and items whose texts are near"

    sra_neighbour_contrast: float = Field(
        0.1,
        ge=0,
        le=1000,
        description="α, weight of telling a user's neighbours from those of others; 0: none of it. [paper]",
    )
    sra_view_contrast: float = Field(
        0.1,
        ge=0,
        le=1000,
        description="β, weight of telling two views of a history from those of others; 0: none of it. [paper]",
    )
    sra_replaced: float = Field(
        0.2, ge=0, le=1, description="Share of a view's items that are replaced by a neighbour of theirs. [paper]"
    )
    sra_temperature: float = Field(
        0.5,
        ge=0.01,
        le=100,
        description="τ, which the cosines of both contrasts are divided by; also how much more the nearer neighbours of"
        " a user count.",
    )
