"""Real dumps through the DAG, under a scheduler: wall time and peak memory per task, LLM calls, rows, metrics.

    LLMSER_DUMPS=FOLDER llmser up &
    python benchmarks/datasets.py --data FOLDER [--only amazon_gift_cards_2018,yelp_sun_city] [--seeds 42]

FOLDER holds the four folders named in `dumps.py`. Peak memory is the highest resident set of the task's process.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import dumps
from rich.console import Console
from sqlalchemy import text

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.services import airflow_api, local, results, stack
from llmser_tasks.services.follow import STEPS
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import engine

TABLES = ("picks", "pseudo_items", "reliability", "metrics", "comparisons", "recommendations", "steps", "batches")


def show_tasks(warehouse: Warehouse, run_id: str, tasks: list[dict[str, Any]], console: Console) -> None:
    """One line a task; mapped instances together, from the first's start to the last's end."""
    steps = [dict(row) for row in read(warehouse, "steps", run_id)]
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for task in tasks:
        if task["start_date"] and task["end_date"]:
            span = (datetime.fromisoformat(task["start_date"]), datetime.fromisoformat(task["end_date"]))
            spans[task["task_id"]].append(span)
    console.print("| task | instances | wall s | peak MiB | |\n| --- | ---: | ---: | ---: | --- |", markup=False)
    for name, found in sorted(spans.items(), key=lambda item: min(item[1])):
        seconds = (max(end for _, end in found) - min(start for start, _ in found)).total_seconds()
        rows = [row for row in steps if row["step"] in STEPS.get(name, (name,))]
        peak = max((row["peak_mib"] or 0 for row in rows), default=0)
        note = next((row["note"] for row in rows if row["note"]), "")
        console.print(f"| {name} | {len(found)} | {seconds:.0f} | {peak or ''} | {note} |", markup=False)
    first, last = (pick(t for s in spans.values() for pair in s for t in pair) for pick in (min, max))
    console.print(f"Whole run: {(last - first).total_seconds():.0f} s", markup=False)


def read(warehouse: Warehouse, what: str, run_id: str) -> list[dict[str, Any]]:
    with queries.read(warehouse, what, run_id) as found:
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(dumps.DATASETS))
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    console = Console(width=140)
    here = stack.attached(environment.home())
    if here is None:
        parser.error("the services are not up; start them with `LLMSER_DUMPS=FOLDER llmser up`")
    warehouse = here.warehouse
    for name in arguments.only.split(","):
        values = dumps.values(arguments.data, name) | {"backbone": arguments.backbone, "epochs": arguments.epochs}
        values["seeds"] = [int(seed) for seed in arguments.seeds.split(",")]
        run_id = local.trigger(environment.home(), values, wait=True, console=Console(stderr=True))
        console.print(f"\n## {name}, {arguments.backbone} ({run_id})\n", markup=False)
        with here.client() as client:
            show_tasks(warehouse, run_id, airflow_api.task_instances(client, run_id), console)
        for row in read(warehouse, "costs", run_id):
            console.print(", ".join(f"{key} {value}" for key, value in row.items()), markup=False)
        with engine(warehouse).connect() as connection:
            counts = {
                table: connection.scalar(text(f"select count(*) from {table} where run_id = :run"), {"run": run_id})
                for table in TABLES
            }
        console.print("Rows written: " + ", ".join(f"{table} {count}" for table, count in counts.items()), markup=False)
        results.show(warehouse, run_id, console)


if __name__ == "__main__":
    main()
