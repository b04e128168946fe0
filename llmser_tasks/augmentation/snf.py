"""SNF, the semantic noise filter (§3.2, Eq. 3): an LLM picks M of the N candidates by meaning.

The prompt has the paper's four parts: the task, the history in reverse order, the candidates, and the form of the
answer (which `llm.prompts` adds). Titles stand in a JSON data block, apart from the instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import config
from llmser_tasks.augmentation.asking import Batch, Inquiry, ask, shuffle_seed
from llmser_tasks.augmentation.catalogue import Catalogue, Ints
from llmser_tasks.augmentation.pools import POOLS
from llmser_tasks.kinds import QuestionStep
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.prompts import build_question
from llmser_tasks.progress import Progress, silent
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.workspace import Artefact, Workspace

DECLARED = QuestionStep(title="Ask which candidates fit (SNF)", place=1, short="SNF", asks="which candidates fit")

STEP = "snf"
PROMPT_VERSION = "snf-1"  # goes up with every change of wording here or in llm.prompts.answer_rules
INSTRUCTIONS = """\
Task: reconstruct what a person most plausibly chose before the records about them begin.

The data has two parts; every title in it names one {noun}.
- "history": what this person chose, the most recent first, so that its last entry is the earliest one shown.
- "candidates": what people with similar histories chose early on. They were found by counting alone, in no particular \
order here, and part of them is noise that has nothing to do with this person.

Judge each candidate by its meaning: what it is and what it is for, its kind, brand and style, and whether it belongs \
with the history. Leave the noise behind and pick the {picks} candidates that this person most plausibly chose just \
before the earliest entry of the history; the likeliest comes first."""

NO_HISTORY = "no item of the history has a title"
NO_CANDIDATE = "no candidate has a title"


def inquire(
    user: int,
    history: Ints,
    pool: Ints,
    catalogue: Catalogue,
    *,
    pseudo_items: int,
    noun: str,
    llm: config.Llm,
    seed: int,
) -> Inquiry:
    """One user's question. Items without a title are left out: nobody can judge them.

    Args:
        history: S_u, oldest first.
        pool: R_u in rank order.
        pseudo_items: M.
    """
    shown, candidates = history[catalogue.titled[history]], pool[catalogue.titled[pool]]
    if not len(shown):
        return Inquiry(user, None, reason=NO_HISTORY)
    if not len(candidates):
        return Inquiry(user, None, reason=NO_CANDIDATE)
    picks = min(pseudo_items, len(candidates))
    question = build_question(
        step=STEP,
        prompt_version=PROMPT_VERSION,
        instructions=INSTRUCTIONS.format(noun=noun, picks=picks),
        history=catalogue.titles_of(shown[-llm.history_length :]),
        candidates=catalogue.titles_of(candidates),
        picks=picks,
        seed=shuffle_seed(seed, STEP, shown, candidates),
        temperature=llm.temperature,
        title_length=llm.title_length,
        history_length=llm.history_length,
        newest_first=True,
    )
    return Inquiry(user, question, candidates.tolist())


def filter_noise(
    workspace: Workspace,
    batch: Batch,
    *,
    run_id: str,
    training: Artefact,
    catalogue: Artefact,
    ccg: Artefact,
    pseudo_items: int,
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
    pools = batch.of(Histories.read(workspace.folder(ccg) / POOLS), open_rows)
    inquiries = [
        inquire(int(user), history, pool, known, pseudo_items=pseudo_items, noun=noun, llm=llm, seed=seed)
        for user, history, pool in zip(histories.users, histories, pools, strict=True)
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
