"""How fast titles are embedded, and how fast the embedding ranker answers once it knows them.

    python benchmarks/ranker.py [--titles FILE] [--questions 5000] [--in-flight 64]

Prints wall time and, because machines are shared, what one second of CPU does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

WORDS = (
    "argan oil shampoo repair conditioner gift card black eyeliner waterproof mascara vitamin serum lotion for dry "
    "sensitive skin with natural extract ounce pack of 2 professional nail polish remover hair color cream brush set"
)
KEY = "known-to-this-benchmark-alone"


def titles(file: Path | None) -> list[str]:
    if file:
        return list(
            dict.fromkeys(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        )
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS.split(), k=draw.randint(3, 22))) + f" {n}" for n in range(2000)]


def embedding(known: list[str]) -> None:
    import torch

    from llmser_tasks.texts.encoder import Encoder

    torch.set_num_threads(1)
    encoder = Encoder.open("minilm")
    encoder.embed(known[:64])
    sample = random.Random(2).sample(known, min(1000, len(known)))
    wall, cpu = time.perf_counter(), time.process_time()
    encoder.embed(sample)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"sorted batches, 1 thread: {len(sample) / wall:.0f} titles/s, {len(sample) / cpu:.0f} per CPU second")
    wall, cpu = time.perf_counter(), time.process_time()
    for title in sample[:100]:
        encoder.embed([title])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"one by one, 1 thread:     {100 / wall:.0f} titles/s, {100 / cpu:.0f} per CPU second")


def questions(known: list[str], count: int, pool: int, most: int | None) -> list[bytes]:
    draw = random.Random(3)
    ids = [f"c{n + 1:02d}" for n in range(pool)]
    one = {"type": "string", "enum": ids}
    properties = {"item": one} if most is None else {"picks": {"type": "array", "items": one, "maxItems": most}}
    schema = {"name": "answer", "strict": True, "schema": {"type": "object", "properties": properties}}
    bodies = []
    for _ in range(count):
        history = draw.sample(known, min(50, 2 + int(draw.expovariate(1 / 8))) + (0 if most else 12))
        candidates = [{"id": i, "title": t} for i, t in zip(ids, draw.sample(known, pool), strict=True)]
        block = json.dumps({"history": history, "candidates": candidates})
        messages = [{"role": "system", "content": "Answer with ids. " * 20}, {"role": "user", "content": block}]
        form = {"type": "json_schema", "json_schema": schema}
        bodies.append(json.dumps({"model": "m", "messages": messages, "response_format": form}).encode())
    return bodies


async def ask(url: str, bodies: list[bytes], in_flight: int) -> float:
    queue = iter(bodies)

    async def one(session: aiohttp.ClientSession) -> None:
        for body in queue:
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                assert response.status == 200, await response.text()
                await response.read()

    started = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=600)
    connector, headers = aiohttp.TCPConnector(limit=in_flight), {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        await asyncio.gather(*(one(session) for _ in range(in_flight)))
    return time.perf_counter() - started


def serving(known: list[str], count: int, in_flight: int) -> None:
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "llmser_tasks.ranker.server", "--cache", cache],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "LLMSER_RANKER_KEY": KEY},
            encoding="utf-8",
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1] + "/chat/completions"
            process = psutil.Process(server.pid)
            print(f"ready after {time.perf_counter() - started:.1f} s ({sum(process.cpu_times()[:2]):.1f} s CPU)")
            for name, pool, most in (("SNF, 6 of 20", 20, 6), ("Reason, 1 of 10", 10, None)):
                bodies = questions(known, count, pool, most)
                for state in ("cold", "warm"):
                    cpu = sum(process.cpu_times()[:2])
                    wall = asyncio.run(ask(url, bodies, in_flight))
                    cpu = sum(process.cpu_times()[:2]) - cpu
                    rate = f"{count / wall:.0f} requests/s, {count / cpu:.0f} per CPU second of the server"
                    print(f"{name}, {state}: {rate} ({process.memory_info().rss / 2**20:.0f} MiB)")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=Path, help="one title a line; else made up")
    parser.add_argument("--questions", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64)
    arguments = parser.parse_args()
    titles_known = titles(arguments.titles)
    embedding(titles_known)
    serving(titles_known, arguments.questions, arguments.in_flight)
