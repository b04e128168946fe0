"""SNF, the semantic noise filter (§3.2, Eq. 3): an LLM picks M of the N candidates by meaning.

The prompt has the paper's four parts: the task, the history in reverse order, the candidates, and the form of the
answer (which `llm.prompts` adds). Titles are in a JSON data block, apart from the instructions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.asking.picks import PICKS
from llmser_tasks.asking.questions import Inquiry, Need, any_titled, shuffle_seed
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import POOL_SOURCES, QuestionStep
from llmser_tasks.llm.prompts import QuestionFormat, build_question
from llmser_tasks.methods.llmser import parts
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS

DECLARED = QuestionStep(
    title="Ask which candidates fit (SNF)", place=4, needs=("ccg",), short="SNF", asks="which candidates fit"
)

STEP = parts.SNF
PROMPT_VERSION = "snf-1"  # goes up with every change of wording here or in llm.prompts.answer_rules
INSTRUCTIONS = """\
Task: reconstruct what a person most plausibly chose before the records about them begin.

The data has two parts; every title in it names one {noun}.
- "history": what this person chose, the most recent first, so that its last entry is the earliest one shown.
- "candidates": {found}. They were found {by}, in no particular order here, and part of them is noise that has nothing \
to do with this person.

Judge each candidate by its meaning: what it is and what it is for, its kind, brand and style, and whether it belongs \
with the history. Leave the noise behind and pick the {picks} candidates that this person most plausibly chose just \
before the earliest entry of the history; the likeliest comes first."""

NEEDS = (Need("ccg", POOLS, lambda config: config.augmentation.pool),)
ANSWERS = PICKS

NO_HISTORY = "no item of the history has a title"
NO_CANDIDATE = "no candidate has a title"


def left_out(config: RunConfig) -> str | None:
    return parts.left_out(STEP, config)


def may_be_asked(histories: Histories, titled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return any_titled(histories, titled)


def inquire(user: int, history: Ints, given: Mapping[str, Ints], catalogue: Catalogue, config: RunConfig) -> Inquiry:
    """One user's question. Items without a title are left out: nobody can judge them.

    Args:
        history: S_u, oldest first.
        given: R_u in rank order.
    """
    pool, llm = given["ccg"], config.llm
    shown, candidates = history[catalogue.titled[history]], pool[catalogue.titled[pool]]
    if not len(shown):
        return Inquiry(user, None, reason=NO_HISTORY)
    if not len(candidates):
        return Inquiry(user, None, reason=NO_CANDIDATE)
    picks = min(config.augmentation.picks_asked, len(candidates))
    sources = [POOL_SOURCES[name] for name in config.augmentation.pool_sources]
    found, by = ", and ".join(source.found for source in sources), " or ".join(source.by for source in sources)
    question = build_question(
        step=STEP,
        prompt_version=PROMPT_VERSION,
        instructions=INSTRUCTIONS.format(noun=config.dataset.noun, picks=picks, found=found, by=by),
        history=catalogue.texts_of(shown[-llm.history_length :]),
        candidates=catalogue.titles_of(candidates),
        texts=catalogue.texts_of(candidates),
        picks=picks,
        seed=shuffle_seed(config.seed, STEP, shown, candidates),
        put=QuestionFormat(
            temperature=llm.temperature,
            title_length=llm.title_length,
            history_length=llm.history_length,
            newest_first=True,
        ),
    )
    return Inquiry(user, question, candidates.tolist())
