"""What a run recommends against what earlier runs of its dataset did, paired over users: has it become better or worse?

For each run, the method whose recommendations it has counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.evaluation.protocols import FULL
from llmser_tasks.evaluation.side_by_side import compare_runs
from llmser_tasks.evaluation.significance import PairedTest, judged
from llmser_tasks.warehouse.tables import results, runs
from llmser_tasks.warehouse.tables.artefacts import StoredRun

EARLIER_RUNS = 3
COLUMNS = (
    "earlier_run", "method", "protocol", "user_group", "metric", "earlier", "mean", "difference", "low", "high", "p",
    "p_holm", "level", "seeds", "stars",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One metric over one group: this run's mean beside an earlier run's, and the test of their difference.

    Attributes:
        seeds: the fewest that either was trained with.
    """

    earlier_run: str
    method: str
    protocol: str
    user_group: str
    metric: str
    earlier: float
    mean: float
    test: PairedTest
    seeds: int


def against_earlier(warehouse: Warehouse, run_id: str, workspace: Workspace) -> list[tuple[object, ...]]:
    """Rows of `earlier_comparisons` (COLUMNS) against the last runs that succeeded; p corrected over all of them.

    A run that was tested on other users or items (new interactions came), or whose artefacts are gone, cannot be
    paired and is left out: the figures of both still stand side by side in `metrics`.
    """
    found: list[Difference] = []
    run = StoredRun.of(warehouse, runs.load(warehouse, run_id), workspace)
    for earlier in results.earlier_runs(warehouse, run_id, EARLIER_RUNS):
        try:
            before = StoredRun.of(warehouse, runs.load(warehouse, earlier), workspace)
            found += _differences(before, run)
        except LlmserError:
            continue
    if not found:
        return []
    said = judged([one.test for one in found], [one.seeds for one in found])
    return [tuple((vars(one) | row)[name] for name in COLUMNS) for one, row in zip(found, said, strict=True)]


def _differences(before: StoredRun, run: StoredRun) -> list[Difference]:
    now, then = run.chosen, before.chosen
    cells, reference = compare_runs([before, run], protocol=FULL, names=(), reference=f"{before.row.run_id}:{then}")
    means = {(cell.group, cell.metric): cell.mean for cell in cells if cell.row is reference}
    return [
        Difference(
            before.row.run_id,
            now,
            FULL,
            cell.group,
            cell.metric,
            means[cell.group, cell.metric],
            cell.mean,
            cell.test,
            cell.seeds,
        )
        for cell in cells
        if (cell.row.run_id, cell.row.method) == (run.row.run_id, now)
        and cell.test is not None
        and cell.seeds is not None
    ]
