"""One client against one server: so many chat completions, so many in flight. Started by `benchmarks/llm_client.py`.

Arguments: client (aiohttp, openai, litellm, llmser-bare, llmser), URL, requests, in flight, first question, database,
processes that run at once (llmser's limit of requests in flight is for all of them).
Asks as many as may be in flight to warm up: imports, pools and statements are made once, not per request. Then it
prints that it is ready, waits for a line, and prints wall and CPU seconds and how many answers were right.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

CLIENT, URL, DATABASE = sys.argv[1], sys.argv[2], sys.argv[6]
REQUESTS, IN_FLIGHT, FIRST = map(int, sys.argv[3:6])  # REQUESTS is what is asked now: less while warming up
TOGETHER = int(sys.argv[7])
TITLES = [{"id": f"c{n:02d}", "title": "thing " * 8} for n in range(20)]
MESSAGES = [
    {"role": "system", "content": "Pick what fits. " * 40},
    {"role": "user", "content": json.dumps({"candidates": TITLES})},
]
logging.disable(logging.INFO)


async def fan_out(ask: Callable[[], Awaitable[str]]) -> int:
    """REQUESTS calls by IN_FLIGHT workers; how many were answered."""
    left, right = REQUESTS, 0

    async def work() -> None:
        nonlocal left, right
        while left:
            left -= 1
            said = await ask()
            right += "c02" in said

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return right


async def by_aiohttp() -> int:
    import aiohttp

    body = {"model": "m", "messages": MESSAGES, "temperature": 0.0, "max_tokens": 72}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask() -> str:
            async with session.post(f"{URL}/chat/completions", data=json.dumps(body)) as response:
                return str(json.loads(await response.read())["choices"][0]["message"]["content"])

        return await fan_out(ask)


async def by_openai() -> int:
    import httpx
    from openai import AsyncOpenAI

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    http = httpx.AsyncClient(limits=limits, timeout=60)
    async with AsyncOpenAI(base_url=URL, api_key="k", http_client=http) as client:

        async def ask() -> str:
            made: Any = MESSAGES
            reply = await client.chat.completions.create(model="m", messages=made, temperature=0.0, max_tokens=72)
            return str(reply.choices[0].message.content)

        return await fan_out(ask)


async def by_litellm() -> int:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched
    import litellm

    async def ask() -> str:
        reply: Any = await litellm.acompletion(
            model="openai/m", api_base=URL, api_key="k", messages=MESSAGES, temperature=0.0, max_tokens=72
        )
        return str(reply.choices[0].message.content)

    return await fan_out(ask)


async def by_llmser_bare() -> int:
    """Our client's own transport and reading, without limiter, budget and ledger."""
    from llmser_tasks.llm.client import Client
    from llmser_tasks.llm.dialects import request_body
    from llmser_tasks.llm.endpoint import Endpoint
    from llmser_tasks.llm.fleet.breaker import Breaker
    from llmser_tasks.llm.prompts import PickQuestion
    from llmser_tasks.llm.replies import read_reply

    endpoint = Endpoint("bench", URL, "m", max_concurrency=IN_FLIGHT)
    question = PickQuestion(
        step="snf", prompt_version="1", messages=tuple(MESSAGES), choices=("x",) * 20, picks=2, max_tokens=72
    )
    nobody: Any = None
    async with Client(endpoint, nobody, nobody, nobody, Breaker(endpoint)) as client:

        async def ask() -> str:
            body = request_body(endpoint, question)
            _, headers, raw = await client._post(body)
            return read_reply(endpoint, headers, raw, len(body), 1, 0).content

        return await fan_out(ask)


def by_llmser() -> int:
    """Everything: prompts, ledger look-up and commits, claims, concurrency, budget, the parsing of answers."""
    from llmser_tasks.core.handle import Warehouse
    from llmser_tasks.llm.answers import PickAnswer
    from llmser_tasks.llm.endpoint import Endpoint
    from llmser_tasks.llm.fleet.fanout import answer
    from llmser_tasks.llm.prompts import build_question
    from llmser_tasks.warehouse.tables.batches import Account

    prices = {"price_per_million_prompt": 1.0, "price_per_million_completion": 1.0}
    endpoint = Endpoint("bench", URL, "m", max_concurrency=IN_FLIGHT * TOGETHER, requests_per_minute=10**6, **prices)
    questions = [
        build_question(
            step="snf",
            prompt_version="1",
            instructions="Pick what fits. " * 40,
            history=[f"lamp {number} of {REQUESTS}"],
            candidates=[f"thing {place} thing thing thing thing" for place in range(20)],
            picks=2,
            seed=number,
        )
        for number in range(FIRST, FIRST + REQUESTS)
    ]
    outcomes = answer(endpoint, questions, Warehouse(DATABASE), account=Account("bench", "snf", FIRST))
    return sum(isinstance(outcome, PickAnswer) and len(outcome.chosen) > 0 for outcome in outcomes)


def main() -> None:
    global REQUESTS
    run = {
        "aiohttp": lambda: asyncio.run(by_aiohttp()),
        "openai": lambda: asyncio.run(by_openai()),
        "litellm": lambda: asyncio.run(by_litellm()),
        "llmser-bare": lambda: asyncio.run(by_llmser_bare()),
        "llmser": by_llmser,
    }[CLIENT]
    measured, REQUESTS = REQUESTS, IN_FLIGHT
    run()
    REQUESTS = measured
    print("ready", flush=True)
    sys.stdin.readline()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    right = run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall": time.monotonic() - started, "cpu": cpu, "right": right}), flush=True)


main()
