"""LLM Reason (§3.3, Eq. 5): which of the H candidates is the masked item, judging by the masked enhanced sequence?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import config
from llmser_tasks.augmentation.asking import Batch, Inquiry, ask, shuffle_seed
from llmser_tasks.augmentation.catalogue import Catalogue, Ints
from llmser_tasks.augmentation.pools import POOLS
from llmser_tasks.files import PSEUDO
from llmser_tasks.kinds import QuestionStep
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.prompts import build_question
from llmser_tasks.progress import Progress, silent
from llmser_tasks.reliability.reasons import MASKED_UNTITLED, NO_CANDIDATE, NO_HISTORY, NO_PSEUDO_ITEMS
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.workspace import Artefact, Workspace

DECLARED = QuestionStep(title="Ask for the masked item (Reason)", place=2, short="Reason", asks="the masked item")

STEP = "reason"
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


def inquire(
    user: int,
    history: Ints,
    pseudo: Ints,
    pool: Ints,
    catalogue: Catalogue,
    *,
    noun: str,
    llm: config.Llm,
    seed: int,
) -> Inquiry:
    """One user's question. Nothing is asked where no answer could be scored; ω is 0 there.

    Args:
        history: S_u with its last item, the masked one.
        pseudo: S_u^pse in sequence order.
        pool: F_u in rank order.
    """
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
        instructions=INSTRUCTIONS.format(noun=noun),
        history=catalogue.titles_of(sequence[-llm.history_length :]),
        candidates=catalogue.titles_of(candidates),
        picks=1,
        seed=shuffle_seed(seed, STEP, sequence, candidates),
        temperature=llm.temperature,
        title_length=llm.title_length,
        history_length=llm.history_length,
    )
    return Inquiry(user, question, candidates.tolist())


def name_masked(
    workspace: Workspace,
    batch: Batch,
    *,
    run_id: str,
    training: Artefact,
    catalogue: Artefact,
    pseudo: Artefact,
    rcs: Artefact,
    noun: str,
    llm: config.Llm,
    seed: int,
    endpoint: Endpoint,
    database_url: str,
    open_rows: NDArray[np.int64] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Ask about every user of a batch; the answers become rows of `picks`. Returns and raises as `asking.ask`.

    Args:
        open_rows: whom the batch counts, as `Batch.of` takes them.
    """
    known = Catalogue.read(workspace.folder(catalogue))
    histories = batch.of(Histories.read(workspace.folder(training) / "histories.parquet"), open_rows)
    enhancements = batch.of(Histories.read(workspace.folder(pseudo) / PSEUDO), open_rows)
    pools = batch.of(Histories.read(workspace.folder(rcs) / POOLS), open_rows)
    inquiries = [
        inquire(int(user), history, enhancement, pool, known, noun=noun, llm=llm, seed=seed)
        for user, history, enhancement, pool in zip(histories.users, histories, enhancements, pools, strict=True)
    ]
    return ask(
        STEP,
        batch,
        inquiries,
        run_id=run_id,
        catalogue=known,
        endpoint=endpoint,
        database_url=database_url,
        llm=llm,
        progress=progress,
    )
