"""CCG, the collaborative candidate generator (§3.2, Eq. 2): which items may have come before a user's first one?

The paper's pools have one source, a model that looks back. Others may be joined with it (`pool_from`, `pools/`).
"""

from __future__ import annotations

from llmser_tasks.core.kinds import POOL_SOURCES, Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import candidate_pools, parts
from llmser_tasks.sequences.histories import Histories

DECLARED = Step(title="Propose candidates (CCG)", place=2, needs=("reverse", "item-vectors"), ranks=True, kept=True)

STEP = parts.CCG


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """R_u: the `pool` (N) likeliest items before S_u in rank order, S_u itself excluded; equal shares where there are
    several sources (`pool_from`).
    """
    augmentation = run.config.augmentation
    sources: dict[str, candidate_pools.Source] = {name: POOL_SOURCES.load(name) for name in augmentation.pool_sources}
    shown = candidate_pools.Shown(Histories.of_run)
    return candidate_pools.make(run, refs, STEP, progress, sources=sources, size=augmentation.pool, shown=shown)
