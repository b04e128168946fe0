"""Our LLM client against the official SDK, LiteLLM and plain aiohttp: requests per second, CPU per request.

    python benchmarks/llm_client.py [--requests 4000] [--in-flight 256] [--processes 1,2,4] [--envs FOLDER]

All ask the same server on loopback, which answers every chat completion after 200 ms: ideal is in-flight ÷ 0.2 s.
`llmser-bare` is our transport and reading alone; `llmser` builds prompts, looks into the ledger, claims, shares limits
and a budget, commits and parses, in an embedded Postgres of its own. Peers are installed on first use below --envs.
Three rounds, one client after the other, each warm; medians. The SDK and LiteLLM, which are slow, ask an eighth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from training import interpreter

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.tables import batches, runs

SCRIPT = Path(__file__).parent / "peers" / "run_llm.py"
SLOW = ("openai", "litellm")
CLIENTS = ("aiohttp", "llmser-bare", "llmser", "openai", "litellm")
ROUNDS = 3
LATENCY_S = 0.2
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": '{"picks": ["c02", "c05"]}'},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 500, "completion_tokens": 15, "total_tokens": 515},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


class Server(asyncio.Protocol):
    """Answers every request after `latency`, at as little cost as can be: the clients are what is measured."""

    latency = LATENCY_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.read = b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            self.read = b""
            self.asked()

    def asked(self) -> None:
        """A request is here, whole."""
        asyncio.get_running_loop().call_later(self.latency, self.transport.write, RESPONSE)


def serve(listener: socket.socket) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Server, sock=listener, backlog=4096)
        await server.serve_forever()

    asyncio.run(forever())


@dataclass(frozen=True)
class Measured:
    rate: float  # requests per second, all processes together
    cpu: float  # CPU ms per request


def measure(client: str, url: str, database: str, asked: argparse.Namespace, processes: int, first: int) -> Measured:
    """`processes` clients at once, each with its share of the requests and all of the requests in flight."""
    python = sys.executable if client.startswith("llmser") else str(interpreter("llm", asked.envs))
    each = asked.requests // processes // (8 if client in SLOW else 1)
    started = []
    for number in range(processes):
        begin = first + number * each
        if client == "llmser":
            batches.record(
                Warehouse(database), batches.Account("bench", "snf", begin), "bench", each, batches.Standing("running")
            )
        numbers = (each, asked.in_flight, begin)
        command = [python, str(SCRIPT), client, url, *map(str, numbers), database, str(processes)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"))
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    said = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout is not None
        said.append(json.loads(process.stdout.readline()))
        process.wait()
    assert all(one["right"] == each for one in said), said
    wall = max(one["wall"] for one in said)
    return Measured(processes * each / wall, 1000 * sum(one["cpu"] for one in said) / (processes * each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--envs", type=Path, default=Path(".benchmark-envs"))
    asked = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    ideal = asked.in_flight / LATENCY_S
    with tempfile.TemporaryDirectory() as home, embedded.on_demand(Path(home)) as postgres:
        migrate(Warehouse(postgres.url))
        runs.create(Warehouse(postgres.url), "bench", "bench", {}, budget=1e9)
        head = "processes | client | requests/s | of aiohttp | of the ideal | CPU ms per request | of aiohttp"
        print(f"| {head} |\n| ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        first = 0
        for processes in map(int, asked.processes.split(",")):
            found: dict[str, list[Measured]] = {client: [] for client in CLIENTS}
            for _ in range(ROUNDS):
                for client in CLIENTS:
                    found[client].append(measure(client, url, postgres.url, asked, processes, first))
                    first += asked.requests
            rate = {client: statistics.median(one.rate for one in found[client]) for client in CLIENTS}
            cpu = {client: statistics.median(one.cpu for one in found[client]) for client in CLIENTS}
            for client in CLIENTS:
                print(
                    f"| {processes} | {client} | {rate[client]:,.0f} | {rate[client] / rate['aiohttp']:.0%}"
                    f" | {rate[client] / ideal / processes:.0%} | {cpu[client]:.2f}"
                    f" | {cpu[client] / cpu['aiohttp']:.1f} × |",
                    flush=True,
                )
    server.kill()


if __name__ == "__main__":
    main()
