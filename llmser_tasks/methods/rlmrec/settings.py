"""Settings of RLMRec."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmser_tasks.core.section import Section


class Rlmrec(Section):
    """Alignment with texts, beside next items."""

    heading: ClassVar[str] = "RLMRec: what is learned of items, held to their texts"

    rlmrec_alignment: Literal["contrastive", "generative"] = Field(
        "contrastive",
        description="contrastive: an item's vector is told by its text; generative: so is what the model makes of the"
        " place of a masked item. [paper]",
    )
    rlmrec_weight: float = Field(
        0.1,
        ge=0,
        le=1000,
        description="Weight of the alignment, summed over a user's items as next items are; 0: none."
        " [released code: generative 0.1, contrastive 0.01]",
    )
    rlmrec_temperature: float = Field(
        0.2, ge=0.01, le=100, description="τ, which cosines are divided by. [released code]"
    )
    rlmrec_masked: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of a sequence's items that generative alignment masks, one at least. [released code]",
    )
