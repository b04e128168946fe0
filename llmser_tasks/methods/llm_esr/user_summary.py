"""LLM-ESR's users in an LLM's words (§3.2.3): what a user's training history says of their preferences.

The paper has an LLM conclude the preference and embeds what it says; its public code embeds the question unanswered
(setting `user_vectors`: titles). Here it is one more question step, for runs that want it (user_vectors: summary). It
sees nothing but the training history, the newest titles first, so that what is cut off is the oldest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.asking.questions import Inquiry, Need, any_titled
from llmser_tasks.asking.user_texts import TextAnswers
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import QuestionStep
from llmser_tasks.llm.free_text import build_text_question
from llmser_tasks.llm.prompts import QuestionFormat
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories

DECLARED = QuestionStep(
    title="Summarise users",
    place=4,  # after all that is made without answers
    when=("user_vectors", "summary"),
    short="Summary",
    asks="what a user's history says of them",
)

STEP = "user-summary"
PROMPT_VERSION = "user-summary-1"  # goes up with every change of wording here or in llm.free_text
INSTRUCTIONS = """\
Task: conclude what a person prefers from what this person chose.

The data has one part; every title in it names one {noun}.
- "history": what this person chose, the most recent first.

Conclude the preference that the history shows: kinds, purposes, brands and style, and what seems to matter to this \
person, the recent more than the old. Write it down in English, in at most 80 words, the most telling first. Speak of \
the preference alone: list no titles, and say nothing about this task."""

NEEDS: tuple[Need, ...] = ()
ANSWERS = TextAnswers("set user_vectors to titles")

NO_HISTORY = "no item of the history has a title"


def may_be_asked(histories: Histories, titled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return any_titled(histories, titled)


def inquire(user: int, history: Ints, given: Mapping[str, Ints], catalogue: Catalogue, config: RunConfig) -> Inquiry:
    """One user's question. Items without a title are left out.

    Args:
        history: S_u, oldest first.
    """
    del given
    llm, shown = config.llm, history[catalogue.titled[history]]
    if not len(shown):
        return Inquiry(user, None, reason=NO_HISTORY)
    question = build_text_question(
        step=STEP,
        prompt_version=PROMPT_VERSION,
        instructions=INSTRUCTIONS.format(noun=config.dataset.noun),
        history=catalogue.texts_of(shown[-llm.history_length :]),
        put=QuestionFormat(
            temperature=llm.temperature,
            title_length=llm.title_length,
            history_length=llm.history_length,
            newest_first=True,
        ),
    )
    return Inquiry(user, question)
