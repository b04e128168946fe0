"""A run's results into Postgres: all of them in one transaction, so that readers see the old ones or the new."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.files import PSEUDO, RELIABILITY
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.evaluation import earlier, item_maps, ladder
from llmser_tasks.evaluation.evaluate import COMPARISON_ROWS, METRIC_ROWS
from llmser_tasks.evaluation.examples import examples
from llmser_tasks.evaluation.report import Report, Trust, render
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows
from llmser_tasks.warehouse.tables import publications, results, runs
from llmser_tasks.warehouse.tables.publications import Chosen

log = logging.getLogger(__name__)

USERS_AT_ONCE = 50_000
ITEM_MAPS = (
    "method", "seed", "shares", "silhouette", "overlap", "chance", "item_ids", "heads", "counts", "xs", "ys",
)  # fmt: skip
RECOMMENDATIONS = ("method", "seed", "user_id", "item_ids", "scores")


def publish(run: Run, refs: Refs) -> tuple[dict[str, int], publications.KeptBack | None]:
    """Replace the run's metrics, comparisons, recommendations and report, mark the run as succeeded, and give it to
    readers unless something forbids it (`warehouse.tables.publications`).

    Killed at any moment, it leaves what was there before; run again, it doubles nothing.

    Returns:
        Rows written per table; and why readers do not get the run, if they do not.

    Raises:
        InputError: there is no such run.
        StorageError: an artefact is gone, or Postgres cannot be used.
    """
    run_id, config, folder = run.run_id, run.config, run.folder(refs, "evaluation")
    known = Catalogue.of_run(run, refs)
    metrics, comparisons = (
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("metrics", "comparisons")
    )
    ingest_report = json.loads((run.folder(refs, "ingest") / "report.json").read_text(encoding="utf-8"))
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    maps = item_maps.read_maps(folder)
    before = earlier.against_earlier(run.warehouse, run_id, run.workspace)
    chosen = Chosen(facts["chosen"], facts["validation"][facts["chosen"]], facts["chosen_by"])
    recommended = _recommendations(folder / "recommendations.parquet", known)
    with transaction(run.warehouse) as connection:
        row = results.locked(connection, run_id)
        synthetic = bool(row["synthetic"] or ingest_report.get("synthetic"))
        if synthetic:
            runs.mark_synthetic(connection, run_id)
        results.count_texts(connection, run_id)
        html = render(
            Report(
                run_id=run_id,
                config=config,
                started=f"{row['started_at']:%Y-%m-%d %H:%M %Z}",
                synthetic=synthetic,
                facts=facts,
                metrics=metrics,
                comparisons=comparisons,
                trust=_trust(run, refs, known, facts["tail_threshold"]),
                ingest=ingest_report,
                answered_by=results.answered_by(connection, run_id),
                costs=results.costs(connection, run_id),
                asked=results.asked(connection, run_id),
                places={method: shown.places for method, shown in maps.items()},
                searched=_searched(run, refs),
            )
        )
        tables = {
            "metrics": (METRIC_ROWS.names, (row.values() for row in metrics)),
            "validations": (("method", "ndcg"), facts["validation"].items()),
            "comparisons": (
                COMPARISON_ROWS.names,
                ([row[name] for name in COMPARISON_ROWS.names] for row in comparisons),
            ),
            "rungs": (ladder.COLUMNS, ([row[name] for name in ladder.COLUMNS] for row in facts.get("rungs", ()))),
            "item_maps": (ITEM_MAPS, _item_maps(facts.get("item_maps", ()), maps, known)),
            "earlier_comparisons": (earlier.COLUMNS, before),
            "recommendations": (RECOMMENDATIONS, ((chosen.method, config.seed, *rest) for rest in recommended)),
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
            connection, run_id, chosen, gate=config.refresh.gate, ablation=bool(config.augmentation.without)
        )
    if kept_back is not None:
        log.warning("%s", kept_back.told)
    return written, kept_back


def _searched(run: Run, refs: Refs) -> dict[str, Any] | None:
    """What the run's search came to; None if it has none."""
    made = (artefact(refs, name) for name, step in STEPS.items() if step.tries and name in refs)
    return next((run.workspace.summary(one) for one in made), None)


def _trust(run: Run, refs: Refs, known: Catalogue, tail_threshold: int) -> Trust | None:
    """What the report tells about pseudo items and how far they are trusted; None if the run has none."""
    if "reliability" not in refs:
        return None
    scores = run.folder(refs, "reliability") / RELIABILITY
    pseudo = run.folder(refs, "pseudo") / PSEUDO
    shown = examples(
        Histories.of_run(run, refs), pseudo, scores, known, tail_threshold=tail_threshold, seed=run.config.seed
    )
    return Trust(*_reliability(scores), shown)


def _item_maps(
    said: Iterable[Mapping[str, Any]], maps: Mapping[str, item_maps.Drawn], catalogue: Catalogue
) -> Iterator[tuple[Any, ...]]:
    """Rows of ITEM_MAPS, with original ids."""
    for row in said:
        drawn = maps[row["method"]]
        told = [row[name] for name in ITEM_MAPS[:6]]
        yield (*told, catalogue.item_ids_of(drawn.items), drawn.heads, drawn.counts, drawn.xs, drawn.ys)


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
