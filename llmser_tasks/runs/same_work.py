"""Which runs ask the same questions and train the same models, as far as their settings tell.

What a run really shares is decided by the content of its inputs when it comes to them. This says it beforehand, and
errs on the side of more work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmser_tasks.core import config as settings
from llmser_tasks.core.config import RunConfig, digest
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS, Step
from llmser_tasks.core.run import left_out, model_name

# Where dumps lie says nothing of what is in them; the rest comes after the questions, or only divides them.
NOT_ASKED = {"reviews", "items", "without", "beta", "pseudo_targets", "enhance_inference", "encoder", "pseudo_items",
             "asked_items", "budget", "mode", "users_per_batch", "least_usable", "tolerated_failures"}  # fmt: skip
ASKED = {"dataset", "recommender", "augmentation", "reliability", "texts", "llm"}  # sections that questions go by
TRAINED = {"dataset", "recommender"}  # and that every training goes by
NOT_TRAINED = {"reviews", "items", "noun"}


def questions(config: RunConfig, *, whatever_model: bool = False) -> dict[str, str]:
    """By question step that the run asks, what runs that ask the same have in common.

    M is part of it where answers to an earlier question are shown; that one itself asks for as many items, whatever M.

    Args:
        whatever_model: leave out what only decides which candidates there are.
    """
    chosen = _of(config, ASKED - ({"recommender"} if whatever_model else set()), NOT_ASKED)
    common = chosen | {"seed": config.seed, "picks": config.augmentation.picks_asked}
    found = {}
    for name in [name for name in config.chain if name in QUESTION_STEPS]:
        if _left_out(name, config) is None:
            before = _before(name, config.chain)
            missing = {step: _left_out(step, config) for step in before}
            shown = config.augmentation.pseudo_items if any(step in QUESTION_STEPS for step in before) else None
            found[name] = digest(common | {"step": name, "missing": missing, "shown": shown})
    return found


def trainings(config: RunConfig) -> dict[tuple[str, str], str]:
    """By step and part, as rows of `steps` name them, what runs that train the same have in common."""
    common = _of(config, TRAINED, NOT_TRAINED)
    found = {
        (name, ""): digest(common | {"step": name, "seed": config.seed})
        for name, step in config.chain.items()
        if name in STEPS and step.trains and _left_out(name, config) is None
    }
    for method in config.models:
        own = METHODS.load(method).settings(config)
        given = _of(config, ASKED, NOT_TRAINED) | {"seed": config.seed} if METHODS[method].needs else common
        for seed in config.evaluation.seeds:
            basis = given | {"model": model_name(method, seed), "own": own}
            found[method, f"seed {seed}"] = digest(basis)
    return found


def _of(config: RunConfig, sections: set[str], leave_out: set[str]) -> dict[str, Any]:
    flat = settings.to_flat(config)
    return {
        each.name: flat[each.name]
        for each in settings.parameters()
        if each.section in sections and each.name not in leave_out
    }


def _before(name: str, chain: Mapping[str, Step]) -> list[str]:
    """The steps that one needs, and those that these need."""
    found: list[str] = []
    open_ = list(chain[name].needs)
    while open_:
        step = open_.pop()
        if step not in found:
            found.append(step)
            open_ += chain[step].needs
    return sorted(found)


def _left_out(step: str, config: RunConfig) -> str | None:
    kind = QUESTION_STEPS if step in QUESTION_STEPS else STEPS
    return left_out(kind.load(step), config)
