"""The backbone on histories alone: what the others are compared with."""

from __future__ import annotations

from typing import Any

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.trained import Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="base", place=3, colour="plain", trained=True, reference=True, usual=True)


def settings(config: RunConfig) -> dict[str, Any]:
    del config  # the recommender's are all there are
    return {}


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    del run, refs
    return Lessons([WeightedTerm(histories)])


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])
