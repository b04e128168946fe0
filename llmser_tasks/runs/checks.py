"""Checks for what would otherwise be found out only after the trainings and the questions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from llmser_tasks.asking.askable import FEW, Askable
from llmser_tasks.asking.questions import QuestionModule, asked_steps
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import QUESTION_STEPS, STEPS
from llmser_tasks.core.run import Refs, Run, left_out
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.enough import check_enough
from llmser_tasks.sequences.histories import Histories

log = logging.getLogger(__name__)


def check_endpoint(config: RunConfig, *, ranker: bool) -> None:
    """Refuse a run that would ask an endpoint for what it cannot give.

    Args:
        ranker: the endpoint is the embedded one, which is no LLM.

    Raises:
        InputError: it would.
    """
    for name in asked_steps(config):
        module: QuestionModule = QUESTION_STEPS.load(name)
        if (obstacle := module.ANSWERS.obstacle(ranker=ranker)) is not None:
            raise InputError(obstacle)


def check(run: Run, refs: Refs, note: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Refuse a run that could not come to anything, once its dumps are read and split.

    Args:
        note: is told of how many users each question step can ask (`askable`), where there are any, before the run is
            refused for it.

    Raises:
        InputError: nothing could be learned, tested or asked.
    """
    check_enough(run, refs)
    for name in [name for name in run.config.chain if name not in QUESTION_STEPS]:
        module = STEPS.load(name)
        if hasattr(module, "check") and left_out(module, run.config) is None:
            module.check(run, refs)
    if not asked_steps(run.config):
        return
    found = Askable.of(Histories.of_run(run, refs), Catalogue.of_run(run, refs), run.config)
    if note is not None:
        note({"askable": asdict(found)})
    found.check(run.dataset)
    if found.fewest < FEW * found.users:
        log.warning("%s.", found.sentence())
