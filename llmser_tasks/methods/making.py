"""What a step's file has to have, and steps made anew with other settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Made, Refs, Run, left_out
from llmser_tasks.core.workspace import Artefact


class StepModule(Protocol):
    """A step's file. Its artefact has the step's name.

    It may also have `left_out(config)`: the part without which it has nothing to do, where the run is without that, or
    None. Of `check(run, refs)`, which refuses data that the step could not work with, and `prepare(run)`, which fetches
    what it must not lack later, both run before anything is trained or paid for. `features(folder)` gives the arrays of
    its artefact that item tables and terms take by name (`recommenders.features`). `estimate(run, refs)` says what an
    endpoint will take for it, as an `llm.estimate.Estimate`, None where none is asked.
    """

    def make(self, run: Run, refs: Refs, progress: Progress) -> Artefact:
        """Make the artefact, or find it.

        Args:
            refs: what the run has so far, including what the step needs.
        """


def make_anew(steps: Collection[str], run: Run, refs: Refs, progress: Progress = silent) -> Made:
    """References to these steps' artefacts for a run whose settings are others than those that `refs` were made with,
    in the order in which they need each other.
    """
    made: Made = {}
    for name in [name for name in run.config.chain if name in steps]:
        module: StepModule = STEPS.load(name)
        if left_out(module, run.config) is None:
            made[name] = module.make(run, {**refs, **made}, progress).reference()
    return made
