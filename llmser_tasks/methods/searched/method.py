"""What the search found: another method, trained for every seed with the settings and the item table that it found."""

from __future__ import annotations

from dataclasses import replace

from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.searched.outcome import Outcome
from llmser_tasks.methods.searched.search import STEP
from llmser_tasks.methods.trained import Recipe

DECLARED = Method(title="found by search", place=7, colour="tenth", trained=True, needs=("search",))


def stands_for(run: Run, refs: Refs) -> Recipe:
    """In a refresh, a training may go on from the earlier one if that had the same choice."""
    found = Outcome.read(run.folder(refs, STEP))
    return replace(found.candidate.recipe(run, refs), goes_on=found.taken_over)
