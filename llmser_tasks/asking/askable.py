"""Which users can be asked about: an item without a title can neither be shown to an LLM nor be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmser_tasks.asking.questions import QuestionModule, asked_steps
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, chain
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories

ARV = "arv"  # the part of a method by which it weighs users
FEW = 0.5  # share of users, or of items with a title, below which people are warned


@dataclass(frozen=True)
class Askable:
    """Training users that each step can ask about, as far as their histories decide it.

    Attributes:
        users: all training users.
        steps: of steps that the run does not leave out, how many users can be asked.
        gaining: users whose weight α can be above 0, so that LLMSeR may differ from the base; None where no method of
            the run has such weights.
        titled, items: of the catalogue.
    """

    users: int
    steps: dict[str, int]
    gaining: int | None
    titled: int
    items: int

    @classmethod
    def of(cls, histories: Histories, catalogue: Catalogue, config: RunConfig) -> Askable:
        titled = catalogue.titled
        weighted = [method for method in config.methods if ARV in METHODS[method].ablations]
        weighing = chain(weighted)
        gaining = np.ones(len(histories), bool)
        steps = {}
        for name in asked_steps(config):
            module: QuestionModule = QUESTION_STEPS.load(name)
            asked = module.may_be_asked(histories, titled)
            if name in weighing:  # who is left out by one of these is by those after it
                asked = gaining = gaining & asked
            steps[name] = int(asked.sum())
        if weighted and not config.without(ARV):  # titles are what ω compares, whoever names the masked item
            gaining &= titled[histories.last()]
        differing = int(gaining.sum()) if weighted else None
        return cls(len(histories), steps, differing, int(titled.sum()), len(titled) - 1)

    @property
    def fewest(self) -> int:
        """Users for whom all of it can come to something."""
        return min([self.users, *self.steps.values(), *([] if self.gaining is None else [self.gaining])])

    def check(self, dataset: str) -> None:
        """
        Raises:
            InputError: nobody's α can be above 0, so that LLMSeR would be the base and a run for nothing; or a step has
                nobody to ask.
        """
        if not self.fewest:
            raise InputError(
                f"Nobody of dataset {dataset} can be asked anything: {self.sentence()}. So the run ends before anything"
                " is trained; set items to the dump with these items' titles, or leave the questions out (without: snf,"
                " arv; user_vectors: mean)."
            )

    def sentence(self) -> str:
        """How many can be asked, and why not more."""
        asked = "; ".join(f"{step}: {users:,} of {self.users:,} users" for step, users in self.steps.items())
        told = f"{self.titled:,} of {self.items:,} items have a title, so that few can be asked ({asked})"
        if self.gaining is None:
            return told
        return f"{told}, and LLMSeR can differ from the base for {self.gaining:,} users"
