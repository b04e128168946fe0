"""The best of a model that was trained backwards, for S_u back to front: the paper's candidates (Eq. 2). Without CCG,
uniformly random items."""

from __future__ import annotations

from collections.abc import Mapping

from llmser_tasks.core.kinds import POOL_SOURCES, PoolSource
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.methods.llmser.candidate_pools import FromModel
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import Pools

DECLARED = PoolSource(
    title="CCG", place=1, found="what people with similar histories chose early on", by="by counting alone"
)

MODEL = FromModel(parts.REVERSE, backwards=True)


def inputs(run: Run, refs: Refs) -> Mapping[str, Artefact]:
    return MODEL.inputs(run, refs)


def modules(run: Run, refs: Refs) -> list[str]:
    return [POOL_SOURCES.module_of(parts.CCG), *MODEL.modules(run, refs)]


def propose(run: Run, refs: Refs, seen: Histories, size: int, progress: Progress) -> Pools:
    return MODEL.propose(run, refs, seen, size, progress)
