"""Whether a run on these sequences can come to anything: checked before anything is trained or paid for."""

from __future__ import annotations

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.run import Refs, Run, artefact

BRING_MORE = "lower user_core, item_core and min_length, or take a larger dump"


def check_enough(run: Run, refs: Refs) -> None:
    """Refuse now what would otherwise be found out after the trainings.

    Raises:
        InputError: nothing could be learned, watched or tested; the sentence says which.
    """
    training = run.workspace.summary(artefact(refs, "training"))
    longest = training["lengths"]["max"]
    if longest < 2:
        raise InputError(
            f"None of the {training['users']:,} users of dataset {run.dataset} has two training items, so "
            f"there is no next item to learn; {BRING_MORE}."
        )
    for part, what in (("test", "be tested on"), ("validation", "tell when to stop a training")):
        held_out = run.workspace.summary(artefact(refs, part))
        if not held_out["new"]:
            raise InputError(
                f"No user of dataset {run.dataset} has a {part} item that is new to them "
                f"({held_out['users']:,} have one that they had before), so there is nothing to {what}; {BRING_MORE}"
                f"{', or take another split' if held_out['users'] else ''}."
            )
