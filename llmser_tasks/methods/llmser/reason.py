"""LLM Reason (§3.3, Eq. 5): which of the H candidates is the masked item, judging by the masked enhanced sequence?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.asking.picks import PICKS
from llmser_tasks.asking.questions import Inquiry, Need, shuffle_seed
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.files import PSEUDO
from llmser_tasks.core.kinds import QuestionStep
from llmser_tasks.llm.prompts import QuestionFormat, build_question
from llmser_tasks.methods.llmser import parts
from llmser_tasks.methods.llmser.reasons import MASKED_UNTITLED, NO_CANDIDATE, NO_HISTORY, NO_PSEUDO_ITEMS
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS

DECLARED = QuestionStep(
    title="Ask for the masked item (Reason)", place=7, needs=("pseudo", "rcs"), short="Reason", asks="the masked item"
)

STEP = parts.REASON
PROMPT_VERSION = "reason-1"  # goes up with every change of wording here or in llm.prompts.answer_rules
INSTRUCTIONS = """\
Task: infer the one entry of a person's history that has been masked.

The data has two parts; every title in it names one {noun}.
- "history": what this person chose, in the order of time, the oldest first. The entry that followed the last one is \
masked.
- "candidates": what it may have been, in no particular order.

What will be the masked entry? Reason from what the history tells about this person: kinds, purposes, brands and \
style, what belongs together, and what is usually chosen after what stands last. Name the one candidate that explains \
the history best as its next entry."""

NEEDS = (
    Need("pseudo", PSEUDO, lambda config: config.augmentation.pseudo_items, like="ccg"),
    Need("rcs", POOLS, lambda config: config.reliability.reason_pool),
)
ANSWERS = PICKS


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def may_be_asked(histories: Histories, titled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(U,) whether the masked item has a title."""
    masked: NDArray[np.bool_] = titled[histories.last()]
    return masked


def inquire(user: int, history: Ints, given: Mapping[str, Ints], catalogue: Catalogue, config: RunConfig) -> Inquiry:
    """One user's question. Nothing is asked where no answer could be scored; ω is 0 there.

    Args:
        history: S_u with its last item, the masked one.
        given: S_u^pse in sequence order, F_u in rank order.
    """
    pseudo, pool, llm = given["pseudo"], given["rcs"], config.llm
    if not len(pseudo):
        return Inquiry(user, None, reason=NO_PSEUDO_ITEMS)
    if not catalogue.titled[history[-1]]:
        return Inquiry(user, None, reason=MASKED_UNTITLED)
    sequence = [int(item) for part in (pseudo, history[:-1]) for item in part if catalogue.titled[item]]
    candidates = pool[catalogue.titled[pool]]
    if not sequence:
        return Inquiry(user, None, reason=NO_HISTORY)
    if not len(candidates):
        return Inquiry(user, None, reason=NO_CANDIDATE)
    question = build_question(
        step=STEP,
        prompt_version=PROMPT_VERSION,
        instructions=INSTRUCTIONS.format(noun=config.dataset.noun),
        history=catalogue.texts_of(sequence[-llm.history_length :]),
        candidates=catalogue.titles_of(candidates),
        texts=catalogue.texts_of(candidates),
        picks=1,
        seed=shuffle_seed(config.seed, STEP, sequence, candidates),
        put=QuestionFormat(
            temperature=llm.temperature,
            title_length=llm.title_length,
            history_length=llm.history_length,
        ),
    )
    return Inquiry(user, question, candidates.tolist())
