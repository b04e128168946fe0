"""The run's budget: money is held for a request before it is sent, so all batches together never spend more.

A batch holds some at a time, a tenth of what is left at most, in its row of `batches`. What a killed worker held is
free at once: its advisory lock is gone (see `claims`). Requests whose answers were lost on the way count with the most
they can have cost, because nobody knows.

Requests cost less than the most they can, so what is held for those in flight comes back in part. A batch that cannot
hold what it needs therefore gives back what it does not use and waits, as long as enough could still come back. One
that has nothing in flight, because it waits for others' answers or for its share of the endpoint, gives it back too:
whoever it waits for may be waiting for that money.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointFatal
from llmser_tasks.llm.fleet.breaker import Breaker
from llmser_tasks.warehouse.engine import Connection, transaction
from llmser_tasks.warehouse.tables import budgets
from llmser_tasks.warehouse.tables.batches import Meter

log = logging.getLogger(__name__)

AT_ONCE = 100  # requests to hold money for by one statement, where there is enough
LOOK_AGAIN_S = 0.2  # whether others have given money back


class BudgetSpent(EndpointFatal):
    """The run may spend no more until a person raises its budget."""

    kind = "budget"


@dataclass
class Payment:
    """What one request costs: nothing until it is sent, then the most it can, then its price."""

    most: float
    price: float = 0.0
    sent: bool = False
    settled: bool = False

    def send(self) -> None:
        self.sent, self.price = True, self.most

    def settle(self, price: float | None) -> None:
        """The endpoint has answered; errors are free. None: nobody knows what it costs."""
        if price is not None:
            self.settled, self.price = True, price

    def waste(self, price: float | None) -> None:
        """It answered with nothing usable, which costs money all the same."""
        if price is not None:
            self.price = price


class Budget:
    """Pays for one batch's requests. Without a meter, or without a budget, it only counts."""

    def __init__(
        self, endpoint: Endpoint, warehouse: Warehouse, meter: Meter | None, owner: int, breaker: Breaker
    ) -> None:
        """
        Args:
            owner: number of the advisory lock that lives as long as this batch.
        """
        self._endpoint = endpoint
        self._warehouse = warehouse
        self._meter = meter
        self._owner = owner
        self._breaker = breaker
        self._limited = False
        self._free = 0.0  # held, and not yet for a certain request
        self._in_flight = 0.0  # held for the requests that are under way
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._meter is not None:
            limit = await asyncio.to_thread(_limit, self._warehouse, self._meter.account.run_id)
            if limit is not None and self._endpoint.cost(1, 1) is None:
                raise InputError(
                    f"Run {self._meter.account.run_id} has a budget of {limit:g}, but nobody knows what the model "
                    f"{self._endpoint.model} costs; put it into the price table, or give the run no budget."
                )
            self._limited = limit is not None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass  # what is left of the held money is free once the batch's end is recorded

    @asynccontextmanager
    async def pay(self, most: Callable[[], float]) -> AsyncIterator[Payment]:
        """Hold what one request can cost, and count what it did cost.

        Args:
            most: what it can cost at most, asked for when its turn has come: our guess at a prompt's tokens gets better
                with every answer, and one made before a long wait may exceed a budget that is enough.

        Raises:
            Stopped: the budget is too small for it, or the batch is over.
            StorageError: Postgres is down; without it the budget cannot be kept.
        """
        async with self._turn:
            while self._free < (wanted := most()) and self._limited:
                await self._hold(wanted)
            self._free -= wanted
        payment = Payment(wanted)
        self._in_flight += payment.most
        try:
            yield payment
        finally:
            self._in_flight -= payment.most
            self._free += payment.most - payment.price
            if self._meter is not None and payment.sent:
                self._meter.calls += 1
                self._meter.lost += 0.0 if payment.settled else payment.price

    async def rest(self) -> None:
        """Where nothing is in flight, give back what is held for requests to come."""
        async with self._turn:
            if not self._limited or self._in_flight > 0 or self._free <= 0:
                return
            unused, self._free = self._free, 0.0
            try:
                await asyncio.to_thread(self._return, unused)
            except StorageError as error:
                log.debug("Money was not given back, but ends with the connection: %s", error)

    async def _hold(self, most: float) -> None:
        """Hold more, or wait a little where what is in flight may come back."""
        in_flight, unused = self._in_flight, self._free
        found = await asyncio.to_thread(self._take, most, unused)
        if found.amount:
            self._free += found.amount
            return
        self._free -= unused  # given back; more may have come in meanwhile
        if found.left + unused + found.others + in_flight < most:
            run = self._meter.account.run_id if self._meter else ""
            self._breaker.trip(too_little(run, found.budget, found.spent))
        self._breaker.check()
        await asyncio.sleep(LOOK_AGAIN_S)

    def _take(self, most: float, unused: float) -> _Held:
        """Hold what is missing to `most` and more; where the rest is too little, give back what is unused."""
        assert self._meter is not None
        account = self._meter.account
        with transaction(self._warehouse) as connection:
            budget, spent, left, others = what_is_left(connection, account.run_id, self._owner)
            missing = most - unused
            if budget == math.inf:  # taken away meanwhile
                return _Held(budget, spent, left, missing)
            amount = min(max(missing, min(AT_ONCE * most, left / 10)), left)
            if amount >= missing:
                budgets.hold(connection, account, amount, self._owner)
                return _Held(budget, spent, left, amount)
            self._give_back(connection, unused)
            return _Held(budget, spent, left, 0.0, others)

    def _return(self, unused: float) -> None:
        with transaction(self._warehouse) as connection:
            self._give_back(connection, unused)

    def _give_back(self, connection: Connection, unused: float) -> None:
        assert self._meter is not None
        budgets.give_back(connection, self._meter.account, unused, self._owner)


@dataclass(frozen=True)
class _Held:
    """What came of an attempt to hold money.

    Attributes:
        left: what nobody held before.
        amount: what this batch holds now in addition; 0 where `left` is too little.
        others: what batches that run beside this one hold, where it does not.
    """

    budget: float
    spent: float
    left: float
    amount: float
    others: float = 0.0


def what_is_left(connection: Connection, run_id: str, owner: int | None = None) -> tuple[float, float, float, float]:
    """A run's budget, what is spent of it, what nobody holds, and what batches that live hold but for `owner`'s.

    Until the transaction ends, nobody else looks.
    """
    use = budgets.use(connection, run_id, owner)
    budget = math.inf if use.budget is None else use.budget
    return budget, use.spent, budget - use.spent - use.held, use.others


def too_little(run_id: str, budget: float, spent: float) -> BudgetSpent:
    return BudgetSpent(
        f"Run {run_id} has spent {spent:.4g} of its budget of {budget:.4g}, and its next questions may cost more than "
        f"what is left, so the batch stopped; answers are kept. `llmser budget {run_id} AMOUNT` raises it, then rerun: "
        "only what is missing will be asked."
    )


def _limit(warehouse: Warehouse, run_id: str) -> float | None:
    with transaction(warehouse) as connection:
        return budgets.budget(connection, run_id)
