"""What the files of steps have."""

from __future__ import annotations

from typing import Protocol

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact


class StepModule(Protocol):
    """A step's file. Its artefact is called as the step is.

    It may also have `check(run, refs)`, which refuses data with which the step could not be done, and `prepare(run)`,
    which gets what it must not miss later; both before anything is trained or paid.
    """

    def left_out(self, config: RunConfig) -> str | None:
        """The part whose absence leaves the step nothing to do; None: it is done."""

    def make(self, run: Run, refs: Refs, progress: Progress) -> Artefact:
        """Make the artefact, or find it.

        Args:
            refs: what the run has so far, what the step needs among it.
        """
