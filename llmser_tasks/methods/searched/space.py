"""What a search tries: the run's methods without their parts, each with every item table that it takes and with the
settings that its file names (`searched`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from pydantic import ValidationError

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import DeclarationError
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, REFERENCE, chain
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.making import make_anew
from llmser_tasks.methods.trained import Axis, Recipe

MOST = 2_000  # combinations of a family that are listed


@dataclass(frozen=True)
class Candidate:
    """One way to train.

    Attributes:
        method: with its item table.
        settings: flat, over the run's own.
        remade: steps whose artefacts depend on these.
    """

    method: str
    settings: Mapping[str, Any]
    remade: tuple[str, ...] = ()

    def recipe(self, run: Run, refs: Refs, progress: Progress = silent) -> Recipe:
        """What is trained; what its settings change is made, or found."""
        if not self.settings:
            return Recipe(run, refs, self.method)
        other = replace(run, config=with_settings(run.config, self.settings), aside=True)
        return Recipe(other, {**refs, **make_anew(self.remade, other, refs, progress)}, self.method)

    def title(self, own: RunConfig) -> str:
        """What people read: `LLMSeR, mended + text start, beta 0.25`."""
        before, now = effective(own), effective(with_settings(own, self.settings))
        said = [_said(name, value, before[name]) for name, value in now.items() if value != before[name]]
        return ", ".join([METHODS[self.method].title, *said])


def with_settings(own: RunConfig, changed: Mapping[str, Any]) -> RunConfig:
    """The run's settings with these in place of their namesakes.

    Raises:
        DeclarationError: there is no such setting, or they do not fit together.
    """
    if not changed:
        return own
    sections = {name: section.model_dump() for name, section in own}
    for name, value in changed.items():
        section = next((section for section, settings in sections.items() if name in settings), None)
        if section is None:
            raise DeclarationError(f"A method's file has the search try {name}, which is no setting; correct it there.")
        sections[section][name] = value
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        raise DeclarationError(
            f"A method's file has the search try {', '.join(changed)} in a way that does not fit together "
            f"({error.errors()[0]['msg']}); correct it there."
        ) from None


def effective(settings: RunConfig) -> dict[str, Any]:
    """What every setting comes to, by its flat name."""
    return {
        name: value
        for _, section in settings
        for name, value in section.resolved({*type(section).model_fields, *section._resolved.values()}).items()
    }


def axes_of(family: str, own: RunConfig) -> Sequence[Axis]:
    """What the family's file has to choose from."""
    searched = getattr(METHODS.load(family), "searched", None)
    return searched(own) if searched else ()


def families(own: RunConfig) -> dict[str, list[Candidate]]:
    """Of every method of the run, what there is to try; the first of each is the method as the run has it.

    Tables are left out that need a question which the run does not ask anyway.
    """
    asked = {step for step in chain(own.methods) if step in QUESTION_STEPS}
    found: dict[str, list[Candidate]] = {}
    for name in METHODS.tried(own.methods):
        family = METHODS.without_parts(name)
        if name == family:
            combined = list(_combined(axes_of(family, own), own))
        if {step for step in chain([name]) if step in QUESTION_STEPS} <= asked:
            found.setdefault(family, []).extend(Candidate(name, *settings) for settings in combined)
    return found


def listed(own: RunConfig, seed: int) -> list[Candidate]:
    """All that there is to try, in the order in which it is: the reference, every method as the run has it, then the
    methods in turn, each time with another table and settings, drawn at random. So a method with much to choose from
    does not crowd out the others.
    """
    random = np.random.default_rng(seed)
    every = families(own)
    first = [every[name][0] for name in dict.fromkeys([REFERENCE, *every])]
    others = [
        [of_family[1:][place] for place in random.permutation(len(of_family) - 1)] for of_family in every.values()
    ]
    longest = max(map(len, others))
    return first + [of_family[turn] for turn in range(longest) for of_family in others if turn < len(of_family)]


def _combined(axes: Sequence[Axis], own: RunConfig) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """A method's settings in every combination, the run's own first, those that come to the same once; and what has to
    be made anew for each.
    """
    seen: list[dict[str, Any]] = []
    for place, choice in enumerate(product(*(axis.choices for axis in axes))):
        if place == MOST:
            return
        changed = {name: value for settings in choice for name, value in settings.items()}
        comes_to = effective(with_settings(own, changed))
        if comes_to not in seen:
            seen.append(comes_to)
            steps = (step for axis, chosen in zip(axes, choice, strict=True) if chosen for step in axis.remade)
            yield changed, tuple(dict.fromkeys(steps))


def _said(name: str, value: Any, before: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if isinstance(value, list | tuple):
        return f"{words} {' '.join(map(str, [one for one in value if one not in before]))}"
    return f"{words} {value}"
