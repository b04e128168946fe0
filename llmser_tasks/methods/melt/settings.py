"""Settings of MELT."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmser_tasks.core.section import Section


class Melt(Section):
    """Two branches, for tail users and for tail items."""

    heading: ClassVar[str] = "MELT: tail users and tail items, taught by head users and head items"

    melt_users: float = Field(
        0.2,
        ge=0,
        le=1000,
        description="λ_U, weight of making the state after a few of a head user's items that after all; 0: no branch."
        " [released code]",
    )
    melt_items: float = Field(
        0.3,
        ge=0,
        le=1000,
        description="λ_I, weight of what makes a head item's vector of states before it; 0: no such branch."
        " [released code]",
    )
    melt_epochs: int = Field(
        180,
        ge=1,
        le=100_000,
        description="e_max, the epoch at which the curriculum has come to what is nearly tail. [paper]",
    )
