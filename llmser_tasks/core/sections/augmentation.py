"""Candidate pools, pseudo-prior items, and how far they are trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from llmser_tasks.core.choices import OneOf
from llmser_tasks.core.kinds import (
    ABLATIONS,
    POOL_SOURCES,
)
from llmser_tasks.core.section import Section

Ablation = Annotated[str, OneOf(ABLATIONS)]


class Augmentation(Section):
    """Candidate pools and pseudo-prior items (SIA)."""

    heading: ClassVar[str] = "Augmentation: candidate pools and pseudo-prior items"

    pool: int = Field(20, ge=1, le=99, description="N, candidates per user. [released code]")
    pool_from: tuple[Annotated[str, OneOf(POOL_SOURCES)], ...] = Field(
        (POOL_SOURCES.default,),
        min_length=1,
        description=f"Where candidates come from, in equal shares: {', '.join(POOL_SOURCES)}. [paper: ccg]",
    )
    pseudo_items: int = Field(12, ge=2, le=99, description="M, pseudo-prior items kept. [paper's best on Fashion]")
    asked_items: int | None = Field(
        None,
        ge=2,
        le=99,
        description="Items that SNF is asked for, likeliest first, of which M are kept; empty: M. Runs that ask for the"
        " same number share SNF's answers, whatever their M.",
    )
    fill: bool = Field(False, description="Fill a short answer from CCG order. [method: off]")
    without: tuple[Ablation, ...] = Field(
        (), description=f"Parts left out, as in the papers' ablations: {', '.join(ABLATIONS)}."
    )

    _resolved: ClassVar[Mapping[str, str]] = {"asked_items": "picks_asked", "pool_from": "pool_sources"}

    @property
    def picks_asked(self) -> int:
        """How many items SNF is asked for."""
        return self.pseudo_items if self.asked_items is None else self.asked_items

    @property
    def pool_sources(self) -> tuple[str, ...]:
        """Each once, in the order of their places: who names them in another order means the same pool."""
        return tuple(name for name in POOL_SOURCES if name in self.pool_from)


class Reliability(Section):
    """How far pseudo items are trusted (ARV) and weighted."""

    heading: ClassVar[str] = "Reliability: masking, reason pools, weights"

    reason_pool: int = Field(10, ge=1, le=99, description="H, RCS candidates per user. [released code]")
    masked_in_pool: bool = Field(
        False,
        description="The masked item takes the place of the last RCS candidate where it is not among them, so that it"
        " can always be named. [paper: off]",
    )
    beta: float = Field(0.5, ge=0, le=1, description="β, weight decay of head users. [paper, Figure 5]")
    forward_on_full: bool = Field(
        False, description="Train RCS on whole histories instead of masked ones. [paper's wording; method: off]"
    )
    encoder: str = Field("minilm", description="BERT that scores: minilm (embedded), a folder, or a hub name.")
    pseudo_targets: bool = Field(
        False, description="Training also asks for the pseudo items themselves, not only for t = 1 … n_u. [Eq. 7: off]"
    )
    enhance_inference: bool = Field(
        True, description="Pseudo items also feed inference. [paper; which is better depends on the data]"
    )
