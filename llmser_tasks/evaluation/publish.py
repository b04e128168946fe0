"""A run's results into Postgres: all of them in one transaction, so that readers see the old ones or the new."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.evaluation import earlier
from llmser_tasks.evaluation.evaluate import COMPARISON_ROWS, METRIC_ROWS
from llmser_tasks.evaluation.examples import examples
from llmser_tasks.evaluation.report import Report, render
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows
from llmser_tasks.warehouse.tables import publications, runs

log = logging.getLogger(__name__)

USERS_AT_ONCE = 50_000
RECOMMENDATIONS = ("run_id", "user_id", "item_ids", "scores")


def publish(
    database_url: str,
    run_id: str,
    workspace: Workspace,
    *,
    evaluation: Artefact,
    catalogue: Artefact,
    pseudo: Artefact,
    reliability: Artefact,
    training: Artefact,
    ingest_report: Mapping[str, Any],
    validation: float,
    config: RunConfig,
) -> tuple[dict[str, int], publications.KeptBack | None]:
    """Replace the run's metrics, comparisons, recommendations and report, mark the run as succeeded, and give it to the
    readers, unless something speaks against it (`warehouse.tables.publications`).

    Killed at any moment, it leaves what was there before; run again, it doubles nothing.

    Args:
        ingest_report: what ingest wrote as report.json.
        validation: NDCG@10 of the weighted recommender on validation items, mean over the seeds; what the gate judges.

    Returns:
        Rows written per table; and why readers are not given the run, where they are not.

    Raises:
        InputError: there is no such run.
        StorageError: an artefact is gone, or Postgres cannot be used.
    """
    folder = workspace.folder(evaluation)
    known = Catalogue.read(workspace.folder(catalogue))
    metrics, comparisons = (
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("metrics", "comparisons")
    )
    scores = workspace.folder(reliability) / "reliability.parquet"
    omega, hit, compared = _reliability(scores)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    shown = examples(
        Histories.read(workspace.folder(training) / "histories.parquet"),
        workspace.folder(pseudo) / "pseudo.parquet",
        scores,
        known,
        tail_threshold=facts["tail_threshold"],
        seed=config.seed,
    )
    before = earlier.against_earlier(database_url, run_id, workspace)
    with transaction(database_url) as connection:
        run = _locked(connection, run_id)
        synthetic = bool(run["synthetic"] or ingest_report.get("synthetic"))
        if synthetic:
            runs.mark_synthetic(connection, run_id)
        html = render(
            Report(
                run_id=run_id,
                config=config,
                started=f"{run['started_at']:%Y-%m-%d %H:%M %Z}",
                synthetic=synthetic,
                facts=facts,
                metrics=metrics,
                comparisons=comparisons,
                omega=omega,
                hit=hit,
                compared=compared,
                examples=shown,
                ingest=ingest_report,
                answered_by=_answered_by(connection, run_id),
                costs=_costs(connection, run_id),
                asked=_asked(connection, run_id),
            )
        )
        tables = {
            "metrics": (METRIC_ROWS.names, (row.values() for row in metrics)),
            "comparisons": (COMPARISON_ROWS.names, (row.values() for row in comparisons)),
            "earlier_comparisons": (earlier.COLUMNS, before),
            "recommendations": (RECOMMENDATIONS[1:], _recommendations(folder / "recommendations.parquet", known)),
            "reports": (("html",), [(html,)]),
        }
        written = {
            table: replace_rows(
                connection, table, ("run_id", *columns), ((run_id, *values) for values in rows), run_id=run_id
            )
            for table, (columns, rows) in tables.items()
        }
        runs.finish(connection, run_id)
        kept_back = publications.conclude(
            connection,
            run_id,
            validation=validation,
            gate=config.refresh.gate,
            ablation=bool(config.augmentation.without),
        )
    if kept_back is not None:
        log.warning("%s", kept_back.told)
    return written, kept_back


def _locked(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """The run's row; a second publisher of the same run waits here until the first has committed."""
    statement = text("select synthetic, started_at from runs where run_id = :run for update")
    row = connection.execute(statement, {"run": run_id}).mappings().one_or_none()
    if row is None:
        raise InputError(f"There is no run {run_id!r} to publish; `llmser show runs` lists them.")
    return dict(row)


def _answered_by(connection: Connection, run_id: str) -> dict[str, int]:
    statement = text(
        "select coalesce(a.answered_by, a.model) as name, count(*) as questions"
        " from picks p join answers a using (question_key)"
        " where p.run_id = :run and a.content is not null group by 1 order by 2 desc, 1"
    )
    return {row.name: row.questions for row in connection.execute(statement, {"run": run_id})}


def _asked(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """Per step the users it was about, and of how many of them there was something to ask."""
    statement = text(
        "select step, count(*) as users, count(question_key) as asked from picks where run_id = :run"
        " group by step order by step desc"
    )
    return [dict(row) for row in connection.execute(statement, {"run": run_id}).mappings()]


def _costs(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    statement = text("select * from run_costs where run_id = :run order by step desc")
    return [dict(row) for row in connection.execute(statement, {"run": run_id}).mappings()]


def _recommendations(path: Path, catalogue: Catalogue) -> Iterator[tuple[str, list[str], list[float]]]:
    """User id, item ids and scores by original ids; users without any are left out."""
    for batch in pq.ParquetFile(path).iter_batches(USERS_AT_ONCE):
        users = catalogue.user_ids_of(batch["user"].to_numpy())
        items = batch["items"]
        ids = catalogue.item_ids_of(items.flatten().to_numpy())
        scores = batch["scores"].flatten().tolist()
        ends = np.cumsum(items.value_lengths().to_numpy()).tolist()
        for user, first, last in zip(users, [0, *ends[:-1]], ends, strict=True):
            if first < last:
                yield user, ids[first:last], scores[first:last]


def _reliability(path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """ω, whether the named item is the masked one, and whether a named title was compared, per training user."""
    table = pq.read_table(path, columns=["masked", "named", "omega", "reason"])
    named = table["named"].fill_null(0).to_numpy()
    compared = (named > 0) & table["reason"].is_null().to_numpy()
    return table["omega"].to_numpy(), (named == table["masked"].to_numpy()) & compared, compared
