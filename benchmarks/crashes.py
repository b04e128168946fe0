"""20,000 questions with 5 % mixed faults, then with workers killed, then with Postgres killed: what is paid, what lost.

    python benchmarks/crashes.py [--users 20000] [--workers 2]

Each user has a question of their own; batches of 500 are asked by worker processes as the DAG's tasks ask them, of the
embedding ranker, which shows faults by seed. A worker that dies is started again and begins its batch anew, as Airflow
would have it. Kills come with signal 9, at moments drawn from a seed, and Postgres is started again at once.

Paid is every answer that the server sent, spoilt ones too. The least that can be paid is one answer for each question
that is answered in the end. Lost: questions without a row in the ledger at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import RANKER, Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import PickQuestion, build_question
from llmser_tasks.postgres import embedded
from llmser_tasks.ranker import child as embedded_ranker
from llmser_tasks.ranker.faults import ODD, SPOILT
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.tables import batches, runs

PER_BATCH = 500
RATES = {
    "429": 0.01,
    "500": 0.008,
    "timeout": 0.002,
    "reset": 0.005,
    "filtered": 0.002,
    "truncated": 0.006,
    "prose": 0.004,
    "duplicates": 0.003,
    "out_of_range": 0.003,
    "invented": 0.002,
    "drip": 0.002,
    "no_usage": 0.003,
}
KEY = "LLMSER_RANKER_KEY"
FAULTS = ",".join(["seed=5", "drip_seconds=1", *(f"{kind}={rate}" for kind, rate in RATES.items())])
WORDS = ("argan", "oil", "shampoo", "repair", "conditioner", "black", "eyeliner", "vitamin", "serum", "lotion")
TITLES = 500


def question(user: int) -> PickQuestion:
    draw = random.Random(user)
    titles = [title(item) for item in draw.sample(range(TITLES), 22)]
    return build_question(
        step="snf",
        prompt_version="crashes",
        instructions="Pick what fits.",
        history=[*titles[:2], f"user {user % TITLES}"],
        candidates=titles[2:],
        picks=6,
        seed=user,
    )


def every_title() -> dict[str, Any]:
    """A request that makes the ranker embed all titles, so that no answer is late for that."""
    known = [title(item) for item in range(TITLES)]
    users = [f"user {number}" for number in range(TITLES)]
    candidates = [{"id": f"c{number}", "title": one} for number, one in enumerate(known)]
    block = json.dumps({"history": users, "candidates": candidates})
    return {"model": "m", "messages": [{"role": "user", "content": block}]}


def title(item: int) -> str:
    return " ".join(random.Random(item).choices(WORDS, k=6)) + f" {item}"


def work(scenario: str, url: str, warehouse: Warehouse, users: int, numbers: list[int]) -> None:
    """One worker: its batches, one after the other; a batch with questions left is tried again, as tasks are."""
    key = os.environ[KEY]
    endpoint = Endpoint(RANKER, url, scenario, key=key, max_concurrency=64, timeout_s=15)
    for number in numbers:
        asked = [question(user) for user in range(number * PER_BATCH, min(users, (number + 1) * PER_BATCH))]
        for _ in range(20):
            try:
                batches.record(
                    warehouse,
                    batches.Account(scenario, "snf", number),
                    "crashes",
                    len(asked),
                    batches.Standing("running"),
                )
                account = batches.Account(scenario, "snf", number)
                outcomes = answer(endpoint, asked, warehouse, account=account)
                if not outcomes.unanswered:
                    batches.record(
                        warehouse,
                        batches.Account(scenario, "snf", number),
                        "crashes",
                        len(asked),
                        batches.Standing("done"),
                    )
                    break
            except StorageError as error:
                print(error, file=sys.stderr)
                time.sleep(1)
        else:
            raise SystemExit(f"Batch {number} stays unanswered.")


def run(scenario: str, users: int, workers: int, home: Path, kills: int, what: str) -> dict[str, Any]:
    """One scenario; `what` is killed `kills` times: "worker" or "postgres"."""
    draw = random.Random(scenario)
    moments = sorted(draw.sample(range(users // 20, users * 19 // 20), kills))  # by calls that the server has seen
    os.environ["LLMSER_RANKER_FAULTS"] = ""  # they may be changed
    with embedded_ranker.running(home / "titles") as endpoint, embedded.on_demand(home) as postgres:
        migrate(Warehouse(postgres.url))
        runs.create(Warehouse(postgres.url), scenario, "crashes", {}, budget=None)
        ranker = endpoint.url.removesuffix("/v1")
        os.environ[KEY] = str(endpoint.key)
        with httpx.Client(trust_env=False, timeout=600, headers={"authorization": f"Bearer {endpoint.key}"}) as http:
            http.post(f"{endpoint.url}/chat/completions", json=every_title()).raise_for_status()
            http.post(f"{ranker}/faults", json={"spec": FAULTS}).raise_for_status()
            count = -(-users // PER_BATCH)

            def begin(one: int) -> subprocess.Popen[bytes]:
                shares = ",".join(map(str, range(one, count, workers)))
                command = [sys.executable, __file__, "--work", scenario, endpoint.url, postgres.url, str(users), shares]
                return subprocess.Popen(command)

            started = time.monotonic()
            running = {one: begin(one) for one in range(workers)}
            seen: dict[str, Any] = {}
            restarts = 0
            while running:
                time.sleep(0.02)
                seen = http.get(f"{ranker}/stats").json()
                if moments and seen["calls"] >= moments[0]:
                    moments.pop(0)
                    if what == "postgres":
                        server = embedded.running(home)
                        assert server is not None
                        os.kill(server.pid, signal.SIGKILL)
                        time.sleep(0.5)
                        embedded.start(home, server.port)
                    else:
                        running[draw.choice(sorted(running))].kill()
                for one, process in list(running.items()):
                    if (code := process.poll()) is None:
                        continue
                    del running[one]
                    if code != 0:
                        restarts += 1
                        assert restarts <= kills + 3, "a worker dies by itself"
                        running[one] = begin(one)
            seconds = time.monotonic() - started
            seen = http.get(f"{ranker}/stats").json()
        with transaction(Warehouse(postgres.url)) as connection:
            rows, with_answer = connection.execute(
                text("select count(*), count(content) from answers where model = :m"), {"m": scenario}
            ).one()
        embedded.stop(home)
    outcomes = seen["outcomes"]
    paid = sum(outcomes.get(kind, 0) for kind in ("answered", *SPOILT, *ODD)) - 1  # that embedded the titles
    return {
        "users": users,
        "calls": seen["calls"] - 1,
        "paid": paid,
        "least": with_answer,
        "twice": paid - with_answer,
        "lost": users - rows,
        "killed": kills - len(moments),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        scenario, url, database, users, numbers = asked.work
        return work(scenario, url, Warehouse(database), int(users), [int(one) for one in numbers.split(",")])
    print("| scenario | users | kills | calls | answers paid | least | paid twice | lost | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for scenario, kills, what in (
        ("faults", 0, ""),
        ("workers killed", 10, "worker"),
        ("Postgres killed", 3, "postgres"),
    ):
        with tempfile.TemporaryDirectory() as home:
            seen = run(scenario, asked.users, asked.workers, Path(home), kills, what)
        print(
            f"| {scenario} | {seen['users']:,} | {seen['killed']} | {seen['calls']:,} | {seen['paid']:,}"
            f" | {seen['least']:,} | {seen['twice']} | {seen['lost']} | {seen['seconds']:.0f} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
