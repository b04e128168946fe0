"""What embedding texts will cost, before any is sent."""

from __future__ import annotations

from collections.abc import Sequence

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.embedding.fanout import calls_for
from llmser_tasks.llm.embedding.wire import key, shortened
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.estimate import Estimate, hours
from llmser_tasks.llm.fleet.ratelimit import BYTES_PER_TOKEN
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.tables import answers


def estimate(endpoint: Endpoint, texts: Sequence[str], warehouse: Warehouse, step: str) -> Estimate:
    """Every text is counted and looked up, none is sent; how many bytes make a token is known from what the same model
    embedded before.
    """
    distinct = {key(endpoint, text): len(shortened(text).encode()) for text in texts}
    known = ledger.settled(warehouse, list(distinct))
    open_ = [size for one, size in distinct.items() if one not in known]
    tokens = sum(open_) / (answers.lengths(warehouse, endpoint.model, step).bytes_per_token or BYTES_PER_TOKEN)
    calls = calls_for(len(open_), tokens)
    cost = endpoint.cost(round(tokens), 0)
    return Estimate(
        step=step,
        users=len(texts),
        questions=len(distinct),
        answered=len(known),
        calls=calls,
        prompt_tokens=round(tokens),
        completion_tokens=0,
        cost=cost,
        most=cost,
        hours=hours(calls, tokens, endpoint),
    )
