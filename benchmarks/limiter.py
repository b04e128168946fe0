"""How exactly processes keep to one limit together: the worst sliding window over it, and how much of it they use.

    python benchmarks/limiter.py [--seconds 20] [--processes 4]

Part 1: processes that do nothing but wait for the limiter, as many requests as it lets through. In the middle one of
them is killed and another one started. Windows of 1 s and 10 s slide over the moments at which requests were let
through; the first second and, for its use, the second after the kill are left out. Tokens: requests of 300 to 1,500
tokens, of which the estimate knows only the size of the prompt; what is counted is what was used.

Part 2: the whole client in as many processes against a server on loopback; one request is answered with 429 and
"Retry-After: 3". When each request reaches the server tells how many were sent by anyone during the pause.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_client import Server
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.breaker import Breaker
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.fleet.ratelimit import Limiter
from llmser_tasks.llm.prompts import build_question
from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.migrations import migrate

LIMITS: dict[str, dict[str, int]] = {
    "100 requests/s": {"requests_per_minute": 6_000},
    "500 requests/s": {"requests_per_minute": 30_000},
    "2,000 requests/s": {"requests_per_minute": 120_000},
    "500,000 tokens/s": {"tokens_per_minute": 30_000_000, "requests_per_minute": 10**6},
}
WAITERS = 128  # requests that wait at once in each process
PAUSE_S = 3.0
ANSWER_S = 0.05


# Part 1 --------------------------------------------------------------------------------------------------------------


def hold_to(limits: dict[str, int], warehouse: Warehouse, seconds: float, seed: int) -> None:
    """One process of part 1: prints a line "moment tokens" for all that it let through, in order."""
    endpoint = Endpoint("limiter", "http://127.0.0.1:9/v1", "m", **limits)  # type: ignore[arg-type]
    draw = random.Random(seed)
    passed: list[tuple[float, int]] = []

    async def wait(limiter: Limiter, until: float) -> None:
        while time.monotonic() < until:
            prompt, completion = draw.randint(250, 1400), draw.randint(20, 80)
            prompt_bytes = int(prompt * draw.uniform(3.2, 4.0))
            reserved = limiter.tokens(prompt_bytes) + 100
            await limiter.wait(reserved)
            passed.append((time.monotonic(), prompt + completion))
            limiter.settle(reserved, prompt + completion, prompt_bytes, prompt)

    async def tell() -> None:
        while True:
            await asyncio.sleep(0.05)  # what a killed process has not said yet would look like use that was lost
            lines = "".join(f"{moment} {tokens}\n" for moment, tokens in passed)
            passed.clear()
            sys.stdout.write(lines)
            sys.stdout.flush()

    async def run() -> None:
        async with Limiter(endpoint, warehouse, Breaker(endpoint)) as limiter:
            telling = asyncio.create_task(tell())
            until = time.monotonic() + seconds
            await asyncio.gather(*(wait(limiter, until) for _ in range(WAITERS)))
            await asyncio.sleep(0.2)
            telling.cancel()

    asyncio.run(run())


def worst(moments: list[tuple[float, float]], window: float) -> float:
    """The most that lies in any window of this length."""
    most = held = 0.0
    first = 0
    for moment, amount in moments:
        held += amount
        while moments[first][0] <= moment - window:
            held -= moments[first][1]
            first += 1
        most = max(most, held)
    return most


def measure(limits: dict[str, int], warehouse: Warehouse, seconds: float, processes: int) -> dict[str, float]:
    """Worst windows as a share of the limit, use of the limit."""
    with transaction(warehouse) as connection:  # asked before: a fresh server makes limited endpoints wait a minute
        connection.execute(text("truncate endpoint_limits"))
        connection.execute(
            text("insert into endpoint_limits (endpoint) values ('limiter http://127.0.0.1:9/v1')"),
        )

    def begin(seconds: float, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--hold", json.dumps(limits), warehouse.url, str(seconds), str(seed)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")

    lines: list[str] = []

    def collect(process: subprocess.Popen[str]) -> threading.Thread:
        assert process.stdout is not None
        thread = threading.Thread(target=lambda pipe=process.stdout: lines.extend(pipe))
        thread.start()
        return thread

    running = [begin(seconds, seed) for seed in range(processes)]
    threads = [collect(process) for process in running]
    while not lines:
        time.sleep(0.01)
    time.sleep(seconds / 2)
    running[0].kill()
    killed = time.monotonic()
    running.append(begin(seconds / 2 - 1, processes))
    threads.append(collect(running[-1]))
    for thread in threads:
        thread.join()
    rows = [line.split() for line in lines if line.endswith("\n") and line.count(" ") == 1]
    by_tokens = "tokens_per_minute" in limits
    moments = sorted((float(moment), float(tokens) if by_tokens else 1.0) for moment, tokens in rows)
    limit = (limits["tokens_per_minute"] if by_tokens else limits["requests_per_minute"]) / 60
    steady = (moments[0][0] + 1, moments[0][0] + seconds - 1)
    moments = [one for one in moments if steady[0] <= one[0] < steady[1]]
    calm = [one for one in moments if not killed <= one[0] < killed + 1]
    return {
        "1 s": worst(moments, 1) / limit - 1,
        "10 s": worst(moments, 10) / (10 * limit) - 1,
        "use": sum(amount for _, amount in calm) / (limit * (steady[1] - steady[0] - 1)),
        "use with the kill": sum(amount for _, amount in moments) / (limit * (steady[1] - steady[0])),
    }


# Part 2 --------------------------------------------------------------------------------------------------------------


class Complaining(Server):
    """Answers one request at once with a pause; writes down when requests came."""

    latency = ANSWER_S
    arrived: list[float]
    complain_at: int

    def asked(self) -> None:
        Complaining.arrived.append(time.monotonic())
        if len(Complaining.arrived) != Complaining.complain_at:
            super().asked()
            return
        refused = b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'
        start = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: %d\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(start % (PAUSE_S, len(refused)) + refused)


def serve(listener: socket.socket, complain_at: int, said: Any) -> None:
    Complaining.arrived, Complaining.complain_at = [], complain_at

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Complaining, sock=listener, backlog=4096)
        await asyncio.to_thread(said.recv)
        server.close()

    asyncio.run(forever())
    said.send(Complaining.arrived)


def ask(address: str, limits: dict[str, int], warehouse: Warehouse, first: int, number: int) -> None:
    """One process of part 2."""
    endpoint = Endpoint("pause", address, "m", max_concurrency=128, **limits)  # type: ignore[arg-type]
    questions = [
        build_question(
            step="snf",
            prompt_version="1",
            instructions="Pick.",
            history=[f"thing {one}"],
            candidates=["a", "b", "c", "d", "e", "f"],
            picks=2,
            seed=one,
        )
        for one in range(first, first + number)
    ]
    outcomes = answer(endpoint, questions, warehouse)
    print(json.dumps({"unanswered": outcomes.unanswered, "calls": outcomes.calls}), flush=True)


def pause(limits: dict[str, int], warehouse: Warehouse, processes: int, number: int, first: int) -> dict[str, Any]:
    """How long after the complaint requests still came, and how many between then and the end of the pause."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    here, there = multiprocessing.Pipe()
    complain_at = processes * number // 3
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener, complain_at, there), daemon=True)
    server.start()
    with transaction(warehouse) as connection:
        connection.execute(text("insert into endpoint_limits (endpoint) values (:e)"), {"e": f"pause {address}"})
    running = []
    for one in range(processes):
        numbers = [str(first + one * number), str(number)]
        command = [sys.executable, __file__, "--ask", address, json.dumps(limits), warehouse.url, *numbers]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8"))
    ended = [json.loads(process.communicate(timeout=300)[0]) for process in running]
    here.send("enough")
    arrived: list[float] = sorted(here.recv())
    server.join()
    told = arrived[complain_at - 1]
    during = [moment - told for moment in arrived if told < moment < told + PAUSE_S]
    return {
        "rate before": (complain_at - 1) / (told - arrived[0]),
        "last": max(during, default=0.0),
        "within 50 ms": sum(late <= 0.05 for late in during),
        "later": sum(late > 0.05 for late in during),
        "longest silence": max(later - earlier for earlier, later in pairwise(arrived)),
        "unanswered": sum(one["unanswered"] for one in ended),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hold", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.hold:
        return hold_to(json.loads(asked.hold[0]), Warehouse(asked.hold[1]), float(asked.hold[2]), int(asked.hold[3]))
    if asked.ask:
        address, limits, url, first, number = asked.ask
        return ask(address, json.loads(limits), Warehouse(url), int(first), int(number))
    with tempfile.TemporaryDirectory() as home, embedded.on_demand(Path(home)) as postgres:
        migrate(Warehouse(postgres.url))
        columns = ["1 s", "10 s", "use", "use with the kill"]
        print("| limit | worst 1 s over | worst 10 s over | use of the limit | with the kill |")
        print("| --- | ---: | ---: | ---: | ---: |", flush=True)
        for name, limits in LIMITS.items():
            found = [
                measure(limits, Warehouse(postgres.url), asked.seconds, asked.processes) for _ in range(asked.rounds)
            ]
            shown = [statistics.median(one[column] for one in found) for column in columns]
            over, used = [f"{share:+.1%}" for share in shown[:2]], [f"{share:.1%}" for share in shown[2:]]
            print(f"| {name} | {' | '.join([*over, *used])} |", flush=True)
        print("\n| pause | requests/s before | last request after the 429 | within 50 ms | later | unanswered |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        first = 0
        for name, limits in (("no limit but 128 in flight", {}), ("200 requests/s", {"requests_per_minute": 12_000})):
            for _ in range(asked.rounds):
                seen = pause(limits, Warehouse(postgres.url), asked.processes, 600, first)
                first += asked.processes * 600
                print(
                    f"| {name} | {seen['rate before']:.0f} | {1000 * seen['last']:.0f} ms | {seen['within 50 ms']}"
                    f" | {seen['later']} | {seen['unanswered']} |",
                    flush=True,
                )
    return None


if __name__ == "__main__":
    main()
