"""Which users can be asked about: an item without a title can neither be shown to an LLM nor be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmser_tasks.asking.questions import QuestionModule, asked_steps
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories

FEW = 0.5  # share of users, or of items with a title, below which people are warned


@dataclass(frozen=True)
class Askable:
    """Training users that each step can ask about, as far as their histories decide it.

    Attributes:
        users: all training users.
        steps: of steps that the run does not leave out, how many users can be asked.
        gaining: users whose weight α can be above 0, so that LLMSeR may differ from the base.
        titled, items: of the catalogue.
    """

    users: int
    steps: dict[str, int]
    gaining: int
    titled: int
    items: int

    @classmethod
    def of(cls, histories: Histories, catalogue: Catalogue, config: RunConfig) -> Askable:
        titled = catalogue.titled
        gaining = np.ones(len(histories), bool)
        steps = {}
        for name in asked_steps(config):
            module: QuestionModule = QUESTION_STEPS.load(name)
            gaining &= module.may_be_asked(histories, titled)
            steps[name] = int(gaining.sum())
        if not config.without("arv"):  # titles are what ω compares, whoever names the masked item
            gaining &= titled[histories.last()]
        return cls(len(histories), steps, int(gaining.sum()), int(titled.sum()), len(titled) - 1)

    def check(self, dataset: str) -> None:
        """
        Raises:
            InputError: nobody's α can be above 0, so that LLMSeR would be the base and a run for nothing.
        """
        if not self.gaining:
            raise InputError(
                f"Nobody of dataset {dataset} can be asked anything: {self.sentence()}. So the run ends before anything"
                " is trained; set items to the dump with these items' titles, or leave the questions out (without: snf,"
                " arv)."
            )

    def sentence(self) -> str:
        """How many can be asked, and why not more."""
        asked = "; ".join(f"{step}: {users:,} of {self.users:,} users" for step, users in self.steps.items())
        return (
            f"{self.titled:,} of {self.items:,} items have a title, so that few can be asked ({asked}), and LLMSeR can "
            f"differ from the base for {self.gaining:,} users"
        )
