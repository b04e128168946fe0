"""Waiting for processes that were just started to become services that can be used: by progress, not by the clock.

How long a start takes depends on the machine and on what else it does. So there is no longest time: as long as what is
waited for works (its log grows, it uses the processor), we wait and say for what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version

import httpx

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.services import airflow_api, airflow_settings
from llmser_tasks.services.airflow_api import Unready
from llmser_tasks.services.components import ComponentDied, Components
from llmser_tasks.warehouse import server
from llmser_tasks.warehouse.migrations import migrate

STALLED_S = 300.0  # without a sign of work
SAY_EVERY_S = 30.0


class Patience:
    """Waits for a component as long as it works."""

    def __init__(self, components: Components, stalled_s: float = STALLED_S) -> None:
        self.components = components
        self.stalled_s = stalled_s
        self.began = time.monotonic()
        self.said = self.began
        self.moved = self.began
        self.name = ""
        self.what = ""
        self.sign: object = None

    def for_(self, name: str, what: str) -> None:
        """Note that we wait for this; say so, and now and then again.

        Raises:
            StorageError: it has shown no sign of work for long.
        """
        now = time.monotonic()
        sign = self.components.sign_of_work(name)
        if what != self.what or sign != self.sign:
            self.moved = now
        if what != self.what or now - self.said >= SAY_EVERY_S:
            self.components.say(f"Waiting for {what} …")
            self.said = now
        if what != self.what:
            self.components.note(waiting_for=what)
        self.name, self.what, self.sign = name, what, sign
        if now - self.moved >= self.stalled_s:
            raise StorageError(
                f"Airflow does not start: while we waited for {what}, nothing happened for {self.stalled_s:.0f} s; "
                f"see {self.components.log(name)}."
            )


def prepare_databases(components: Components, warehouse: Warehouse, airflow: str) -> None:
    """Bring both databases up to date; Airflow's is commented with its version, which takes 10 s to find out otherwise.

    Raises:
        ComponentDied: Airflow's cannot be; the sentence names the log.
        StorageError: Postgres does not answer.
    """
    wanted = f"migrated by apache-airflow {version('apache-airflow')}"
    child = None if server.comment(airflow) == wanted else components.start("migrate")
    migrate(warehouse)
    if child is not None:
        patience = Patience(components)
        while child.process() is not None:
            patience.for_("migrate", "Airflow's database to be prepared")
            time.sleep(0.1)
        if child.wait() != 0:
            raise ComponentDied(f"Airflow's database cannot be prepared; see {components.log('migrate')}.")
        components.forget("migrate")
        server.set_comment(airflow, wanted)


def wait_for_airflow(components: Components, connect: Callable[[], httpx.Client]) -> None:
    """Until the API answers, the pools exist, the DAG is read and the scheduler beats.

    Raises:
        ComponentDied: a component keeps ending.
        StorageError: one has stopped doing anything.
        InputError: the DAG cannot be imported.
    """
    since = datetime.now(UTC)
    patience = Patience(components)
    pools = False
    with connect() as client:
        while True:
            components.watch()
            with _away(patience):
                if not pools:
                    airflow_api.ensure_pool(client, "gpu", airflow_settings.gpu_slots(), "Trainings at once")
                    airflow_api.ensure_pool(
                        client, "llm", airflow_settings.LLM_SLOTS, "Batches of LLM questions at once"
                    )
                    pools = True
                beat = airflow_api.health(client)["scheduler"]["latest_scheduler_heartbeat"]
                if not beat or datetime.fromisoformat(beat) <= since:
                    patience.for_("scheduler", "the scheduler's first heartbeat")
                elif not airflow_api.dag_is_ready(client):
                    patience.for_("dag-processor", "the DAG to be read")
                else:
                    return
            time.sleep(0.3)


@contextmanager
def _away(patience: Patience) -> Iterator[None]:
    try:
        yield
    except (httpx.TransportError, Unready):
        patience.for_("api-server", "the API server")
