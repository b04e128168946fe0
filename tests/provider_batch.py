"""Asking through a provider's Batch API in tests, to the end of the batch."""

from __future__ import annotations

from contextlib import suppress

from patience import until

from llmser_tasks.core.errors import Waiting
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.batch_api import provider_batches
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.outcomes import Outcomes
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse.tables.batches import Account


def finish(endpoint: Endpoint, questions: list[PickQuestion], warehouse: Warehouse, account: Account) -> Outcomes:
    """What came of the questions; what a batch leaves open is asked by the next call."""
    outcomes: list[Outcomes] = []

    def over() -> bool:
        with suppress(Waiting):
            outcomes.append(provider_batches.answer(endpoint, questions, warehouse, account=account))
        return bool(outcomes)

    until(over, lambda: "the batch never ended")
    return outcomes[0]
