"""What is trained, measured and published, and what a refresh takes over."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from llmser_tasks.core.choices import MethodName
from llmser_tasks.core.kinds import (
    COUNTERS,
    METHODS,
    TRAINED,
    USUAL,
    behind,
)
from llmser_tasks.core.section import Section

BEST = "best"


class Evaluation(Section):
    """Measuring and publishing."""

    heading: ClassVar[str] = "Evaluation"

    methods: tuple[Annotated[str, MethodName()], ...] = Field(
        USUAL,
        min_length=1,
        description=f"Methods that are trained and compared: {', '.join(TRAINED)}; each also with another item table or"
        f" something added to its scores behind it ({', '.join(behind()) or 'there is none yet'}). What only counts"
        f" ({', '.join(METHODS[name].title for name in COUNTERS)}) is always measured beside them.",
    )
    publish: Annotated[str, MethodName((BEST,))] = Field(
        BEST,
        description="The method whose recommendations readers are given: the best by validation NDCG@10, or a named one."
        " [design]",
    )
    seeds: tuple[int, ...] = Field(
        (42,),
        min_length=1,
        description="Every method is trained once per seed; CCG, RCS and shuffles use the first. [released code: 42, 43, 44]",
    )
    recommendations: int = Field(20, ge=1, le=1000, description="Items recommended to every user.")
    sampled_negatives: int = Field(
        100, ge=1, description="Uniform negatives of the legacy protocol, fixed per seed. [released code]"
    )


class Refresh(Section):
    """What a run takes over from the published one, and whether it replaces it."""

    heading: ClassVar[str] = "Refresh and publication"

    incremental: bool = Field(
        False,
        description="Start from the dataset's published run: ask only about users whose history changed, go on training"
        " its models. [design]",
    )
    warm_epochs: int = Field(
        5,
        ge=1,
        description="Most epochs of a training that goes on from the published run's model. [design]",
    )
    gate: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="Share by which the validation NDCG@10 may be below the published run's; beyond it the run is not"
        " published. Empty: always published. [design]",
    )
