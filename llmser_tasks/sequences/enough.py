"""Whether a run on these sequences can come to anything: asked before anything is trained or paid for."""

from __future__ import annotations

from collections.abc import Mapping

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Artefact, Workspace

BRING_MORE = "lower user_core, item_core and min_length, or take a larger dump"


def check_enough(workspace: Workspace, config: RunConfig, made: Mapping[str, Artefact]) -> None:
    """Refuse what would only be found out after the trainings and the questions.

    Args:
        made: what `sequences` returned.

    Raises:
        InputError: nothing could be learned, watched or tested; the sentence says which.
    """
    training = workspace.summary(made["training"])
    longest = training["lengths"]["max"]
    if longest < 2:
        raise InputError(
            f"None of the {training['users']:,} users of dataset {config.dataset.name} has two training items, so "
            f"there is no next item to learn; {BRING_MORE}."
        )
    if longest < 3 and _masks(config):
        raise InputError(
            f"None of the {training['users']:,} users of dataset {config.dataset.name} has three training items: with "
            f"the last one masked (RCS) there is no next item to learn; {BRING_MORE}, or run without rcs."
        )
    for part, what in (("test", "be tested on"), ("validation", "tell when to stop a training")):
        held_out = workspace.summary(made[part])
        if not held_out["new"]:
            raise InputError(
                f"No user of dataset {config.dataset.name} has a {part} item that is new to them "
                f"({held_out['users']:,} have one that they had before), so there is nothing to {what}; {BRING_MORE}"
                f"{', or take another split' if held_out['users'] else ''}."
            )


def _masks(config: RunConfig) -> bool:
    """Whether a model is trained on histories without their last item."""
    return not (config.without("arv") or config.without("rcs") or config.reliability.forward_on_full)
