"""ASReP: the backbone on histories whose short ones are extended at their front by a model that looks back.

It begins with that model's weights, as the paper fine-tunes what it pre-trained; pseudo-prior items are targets like
any others, and come before a history wherever a model is shown it.
"""

from __future__ import annotations

from typing import Any

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.asrep.prior_items import FILE
from llmser_tasks.methods.asrep.settings import Asrep
from llmser_tasks.methods.trained import Axis, Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(title="ASReP", place=4, colour="third", trained=True, needs=("reverse", "prior-items"))


def settings(config: RunConfig) -> dict[str, Any]:
    return {"asrep_reverse_start": config.of(Asrep).asrep_reverse_start}


def searched(config: RunConfig) -> list[Axis]:
    """Whether it begins with the model that looks back; if it does, it has that model's item table and no other."""
    return [Axis([{}, {"asrep_reverse_start": not config.of(Asrep).asrep_reverse_start}])]


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """The extended sequence in place of each short S_u; the others as they are."""
    start = run.folder(refs, "reverse") if run.config.of(Asrep).asrep_reverse_start else None
    return Lessons([WeightedTerm(histories.after(prior(run, refs)))], start_from=start)


def prior(run: Run, refs: Refs) -> Histories:
    return Histories.read(run.folder(refs, "prior-items") / FILE)
