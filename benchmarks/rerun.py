"""Failed LLM batches rerun in every way there is: what the ledger and the endpoint count, before and after.

    LLMSER_RANKER_FAULTS= llmser up &
    python benchmarks/rerun.py

A run of 100 batches of 10 users meets an endpoint whose account is in arrears, for such questions that 1 of the
batches fails, or 40 (the fault's seed is searched for that). Then the fault ends, the failed mapped tasks are cleared,
and the run goes on to its end: over Airflow's REST interface, as the page's Clear button does it; by `llmser
rerun-failed`; or by `llmser accept`, which asks for nobody any more.

Each run words its questions in its own way, so that the ledger knows none of them. "twice" counts answers of the
endpoint beyond those in the ledger: questions that were paid for a second time.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import failing
import services
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from llmser_tasks.asking.ask import plan
from llmser_tasks.core import environment
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api
from llmser_tasks.services.follow import follow
from llmser_tasks.services.stack import Stack
from llmser_tasks.warehouse.engine import transaction

BATCHES = 100
USERS = 1020  # 900 with this seed are left by the filter: 100 batches of 9
COUNTS = """
    select (select count(*) from answers where run_id = :run and step = 'snf') as ledger,
           (select sum(calls) from batches where run_id = :run and step = 'snf') as calls,
           (select count(*) from batches where run_id = :run and state = 'failed') as failed,
           (select sum(accepted) from batches where run_id = :run) as accepted,
           (select count(*) from answers where run_id = :run) as all_steps
"""
Count = dict[str, int]
REST = "REST"
WAYS = (REST, "llmser rerun-failed", "llmser accept")


def counts(here: Stack, run_id: str) -> Count:
    with transaction(here.warehouse) as connection:
        return {
            name: int(number or 0)
            for name, number in connection.execute(text(COUNTS), {"run": run_id}).mappings().one().items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failing", type=int, nargs="+", default=[1, 40], help="batches that fail, of 100")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    given = parser.parse_args()
    console = Console(width=140)
    here = services.running()
    stamp = int(time.time())
    files = write_sample(environment.home().absolute() / "sample" / str(stamp), users=USERS, seed=1)
    values: dict[str, Any] = {
        "dataset": "rerun", "reviews": str(files.reviews), "items": str(files.items), "epochs": 3, "user_core": 1,
        "item_core": 1,
    }  # fmt: skip
    warehouse = here.warehouse
    run, refs = failing.prepared(values, warehouse)
    users = failing.users(run, refs)
    values["users_per_batch"] = each = -(-users // BATCHES)
    batches = plan(users, each)
    table = Table(title=f"{len(batches)} batches of {each} users; questions of SNF")
    for name in ("way", "failed", "ledger before", "requests before", "ledger after", "requests after", "asked again",
                 "twice", "accepted", "state", "wall, s"):  # fmt: skip
        table.add_column(name, justify="left" if name == "way" else "right")
    for number, way in itertools.product(given.failing, given.ways):
        noun = f"thing {stamp} {number} {way}"
        fresh = values | {"noun": noun}  # questions that the ledger cannot answer
        spec = failing.fault(replace(run, config=environment.configuration(fresh)), refs, batches, number)
        table.add_row(*rerun(here, console, fresh, spec, way))
        console.print(table)


def rerun(here: Stack, console: Console, values: dict[str, Any], spec: str, way: str) -> list[str]:
    with services.asking(here) as ranker, here.client() as client:

        def answered() -> int:
            return int(ranker.get(f"{services.ranker(here)}/stats").json()["outcomes"].get("answered", 0))

        start = answered()
        with services.faulty(here, spec):
            run_id = airflow_api.trigger(client, values)
            console.print(f"Run {run_id}: {way}, {spec}", markup=False)
            if follow(client, run_id, here.warehouse, console):
                raise SystemExit("The run succeeded in spite of the fault; nothing to rerun.")
        before, failed = counts(here, run_id), airflow_api.failed_tasks(client, run_id)
        began = time.monotonic()
        if way == REST:
            airflow_api.clear_failed(client, run_id)
        else:
            subprocess.run([sys.executable, "-m", "llmser_tasks.cli", way.split()[1], run_id], check=True)
        state = "succeeded" if follow(client, run_id, here.warehouse, console) else "failed"
        took = time.monotonic() - began
        after = counts(here, run_id)
        row = (
            len(failed), before["ledger"], before["calls"], after["ledger"], after["calls"],
            after["calls"] - before["calls"], answered() - start - after["all_steps"], after["accepted"], state,
            round(took),
        )  # fmt: skip
        return [way, *map(str, row)]


if __name__ == "__main__":
    main()
