"""A refresh against the full run: who is asked, how many calls, how long it takes, and what readers see meanwhile.

    python benchmarks/refresh.py --data FOLDER [--users N] [--epochs N] [--share .01]

FOLDER holds `amazon_beauty_2014/`. After a full run a share of its users gets one more item each, ten of them also an
item that the catalogue did not have, by way of the inbox. While the refresh runs, a reader looks at the published
version four times a second: which run it is of, and whether all that it is given is of one run. Then: rollback.

    llmser up &
    python benchmarks/refresh.py --arrivals

drops ten files within a minute into the inbox of a small sample dataset that has a published run, and tells how many
runs Airflow made of them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import services
from ablations import sample_users
from sqlalchemy import text

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.ingest.inbox import signature
from llmser_tasks.runs import arrivals
from llmser_tasks.runs.pipeline import new_run_id, run_all
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, local
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import publications

DATASET = "beauty-refresh"
DAY = 86_400
LOOK_EVERY_S = 0.25
READ = text(
    "select c.run_id, c.version, (select array_agg(distinct run_id) from current_recommendations"
    " where dataset = c.dataset) as recommendations, (select array_agg(distinct run_id) from current_metrics"
    " where dataset = c.dataset) as metrics from current_runs c where c.dataset = :dataset"
)


def rows(warehouse: Warehouse, query: str, **given: Any) -> list[Any]:
    with transaction(warehouse) as connection:
        return list(connection.execute(text(query), given).all())


class Reader(threading.Thread):
    """Looks at the published version until it is told to stop."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__(daemon=True)
        self.warehouse, self.over, self.seen = warehouse, threading.Event(), Counter[tuple[str, int]]()
        self.mixtures = 0

    def run(self) -> None:
        while not self.over.wait(LOOK_EVERY_S):
            with transaction(self.warehouse) as connection:
                row = connection.execute(READ, {"dataset": DATASET}).one()
            self.seen[row.run_id, row.version] += 1
            self.mixtures += not row.recommendations == row.metrics == [row.run_id]


def dumps(data: Path, users: int | None) -> dict[str, str]:
    source = data / "amazon_beauty_2014"
    reviews = source / "reviews_Beauty_5.json.gz"
    if users:
        folder = environment.home() / "sample"  # from where runs may read
        folder.mkdir(parents=True, exist_ok=True)
        cut = folder / f"reviews_Beauty_{users}.json.gz"
        if not cut.exists():
            sample_users(reviews, cut, users)
        reviews = cut
    return {"reviews": str(reviews), "items": str(source / "meta_Beauty.json.gz")}


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """A file in the inbox, as old as one that nobody writes any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    os.utime(path, (time.time() - 60,) * 2)


def more_items(reviews: str, share: float) -> int:
    """New interactions of a share of the users into the inbox; returns how many users."""
    with gzip.open(reviews, "rt", encoding="utf-8") as file:
        known = [json.loads(line) for line in file]
    users, items = sorted({line["reviewerID"] for line in known}), sorted({line["asin"] for line in known})
    when = max(line["unixReviewTime"] for line in known) + DAY
    had = {(line["reviewerID"], line["asin"]) for line in known}
    random = np.random.default_rng(42)
    chosen = [users[i] for i in sorted(random.choice(len(users), max(10, round(share * len(users))), replace=False))]
    lines = []
    for place, user in enumerate(chosen):
        item = next(items[i] for i in random.permutation(len(items)) if (user, items[i]) not in had)
        lines.append({"reviewerID": user, "asin": item, "unixReviewTime": when})
        if place < 10:
            lines.append({"reviewerID": user, "asin": "A-NEW-ONE", "unixReviewTime": when + DAY})
    folder = Path(environment.inbox()) / DATASET
    write(folder / "more.json", lines)
    write(folder / "items" / "more.json", [{"asin": "A-NEW-ONE", "title": "Lavender Hand Cream, 2 oz"}])
    return len(chosen)


def parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the sample; None where it is one of those that are damaged on purpose."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("unixReviewTime"), int) else None


def told(warehouse: Warehouse, run_id: str, wall: float) -> None:
    """Print what a run asked and where its time went."""
    asked = rows(warehouse, "select step, users, calls from run_costs where run_id = :r order by step desc", r=run_id)
    spent = rows(
        warehouse,
        "select step, sum(extract(epoch from finished_at - started_at)) as seconds from steps where run_id = :r"
        " group by step order by min(started_at)",
        r=run_id,
    )
    (facts,) = rows(warehouse, "select validation, unpublished from runs where run_id = :r", r=run_id)
    test = rows(
        warehouse,
        "select method, value from metrics where run_id = :r and protocol = 'full' and user_group = 'all'"
        " and metric = 'N@10' and method in ('base', 'llmser') order by 1",
        r=run_id,
    )
    print(f"{run_id}: {wall:.0f} s, " + ", ".join(f"{row.step} {row.users} users {row.calls} calls" for row in asked))
    print("   seconds: " + ", ".join(f"{row.step} {row.seconds:.0f}" for row in spent))
    figures = ", ".join(f"{row.method} {row.value:.4f}" for row in test)
    print(f"   N@10: validation {facts.validation:.4f}; test {figures}; {facts.unpublished or 'published'}", flush=True)


def timed(values: dict[str, Any], warehouse: Warehouse) -> tuple[str, float]:
    began = time.monotonic()
    run_id = run_all(values, workspace=environment.workspace(), warehouse=warehouse, run_id=new_run_id(values))
    return run_id, time.monotonic() - began


def against_full(arguments: argparse.Namespace) -> None:
    files = dumps(arguments.data, arguments.users)
    values = {"dataset": DATASET, "source": "amazon-2014", "item_core": 5, "epochs": arguments.epochs, **files}
    with address.database() as warehouse:
        full, wall = timed(values, warehouse)
        told(warehouse, full, wall)
        print(f"{more_items(files['reviews'], arguments.share)} users get new items")
        reader = Reader(warehouse)
        reader.start()
        run_id, wall = timed(arrivals.values(warehouse, DATASET), warehouse)
        time.sleep(4 * LOOK_EVERY_S)  # what readers see afterwards
        reader.over.set()
        reader.join()
        told(warehouse, run_id, wall)
        (compared,) = rows(warehouse, "select summary from steps where run_id = :r and step = 'changes'", r=run_id)
        print(f"   changes: {compared.summary}")
        print(f"Seen by the reader (run, version): {dict(reader.seen)}; mixtures: {reader.mixtures}")
        if publications.current(warehouse, DATASET).run_id == run_id:
            back = publications.rollback(warehouse, DATASET)
            print(f"After the rollback: {back.run_id}, version {back.version}")


def ten_arrivals() -> None:
    """Ten files within a minute; counts the runs."""
    here = services.running()
    warehouse, name = here.warehouse, "arrivals"
    files = write_sample(environment.home().absolute() / "sample" / name, users=300, seed=7)
    values = {"dataset": name, "reviews": str(files.reviews), "items": str(files.items), "epochs": 2, "gate": None}
    if publications.current(warehouse, name) is None:
        local.trigger(environment.home(), values, wait=True)
    with gzip.open(files.reviews) as file:
        lines = list(filter(None, map(parsed, file)))
    last = max(line["unixReviewTime"] for line in lines)
    inbox = Path(os.environ.get("LLMSER_INBOX") or here.home / "inbox") / name
    with here.client() as client:
        before = {run["dag_run_id"] for run in airflow_api.runs(client)}
        for number in range(10):
            line = lines[number * 100 % len(lines)] | {"unixReviewTime": last + DAY}
            write(inbox / f"{number}.json", [line])
            print(f"arrival {number + 1}", flush=True)
            time.sleep(6)
        runs: list[dict[str, Any]] = []
        while True:
            runs = [run for run in airflow_api.runs(client) if run["dag_run_id"] not in before]
            left = rows(warehouse, "select seen, wanted_at from refreshes where dataset = :d", d=name)
            idle = bool(runs) and all(run["state"] in {"success", "failed"} for run in runs)
            if idle and left[0].wanted_at is None and left[0].seen == signature(str(inbox.parent), name):
                break
            time.sleep(5)
    print({run["dag_run_id"]: run["state"] for run in runs})
    for row in rows(
        warehouse, "select version, run_id, how, published_at from publications where dataset = :d", d=name
    ):
        print(*row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--users", type=int)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--arrivals", action="store_true")
    arguments = parser.parse_args()
    if arguments.arrivals:
        ten_arrivals()
    elif arguments.data:
        against_full(arguments)
    else:
        parser.error("give --data FOLDER, or --arrivals")


if __name__ == "__main__":
    main()
