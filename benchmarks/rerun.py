"""One LLM batch that fails half-way, cleared as the page does it: how many questions are paid for, before and after.

    llmser up &
    python benchmarks/rerun.py

The embedding ranker is told to answer 503 for half of the distinct questions; the batches fail for these users alone.
Then the fault ends, the failed mapped tasks are cleared over Airflow's REST interface (what the page's Clear button
calls), and the run goes on to its end.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
from rich.console import Console

from llmser_tasks import settings
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, stack
from llmser_tasks.services.follow import follow

USERS = 1000


def say(console: Console, label: str, counted: dict[str, Any]) -> None:
    console.print(f"{label}: {counted}", markup=False)


def main() -> None:
    console = Console(width=140)
    here = stack.attached(settings.home())
    if here is None:
        raise SystemExit("The services are not up; start them with `llmser up`.")
    ranker = here.addresses.ranker.removesuffix("/v1")
    seed = int(time.time())  # other titles each time, so that the ledger does not know the questions yet
    files = write_sample(settings.home().absolute() / "rerun" / str(seed), users=USERS, seed=seed)
    values = {
        "dataset": "rerun",
        "reviews": str(files.reviews),
        "items": str(files.items),
        "epochs": 3,
        "users_per_batch": 200,
    }
    with httpx.Client(trust_env=False) as faults, here.client() as client:
        before = faults.get(f"{ranker}/stats").json()
        faults.post(f"{ranker}/faults", json={"spec": "unavailable=0.5"}).raise_for_status()
        try:
            run_id = airflow_api.trigger(client, values)
            console.print(f"Run {run_id}, half of the questions unavailable", markup=False)
            if follow(client, run_id, here.addresses.warehouse, console):
                raise SystemExit("The run succeeded in spite of the fault; nothing to rerun.")
        finally:
            faults.post(f"{ranker}/faults", json={"spec": ""}).raise_for_status()
        say(console, "Ranker before the fault", before)
        say(console, "Ranker after the failure", faults.get(f"{ranker}/stats").json())
        console.print(f"Failed mapped tasks: {airflow_api.clear_failed(client, run_id)}", markup=False)
        while airflow_api.run(client, run_id)["state"] == "failed":
            time.sleep(0.5)
        if not follow(client, run_id, here.addresses.warehouse, console):
            raise SystemExit("The run failed again.")
        say(console, "Ranker after the rerun", faults.get(f"{ranker}/stats").json())


if __name__ == "__main__":
    main()
