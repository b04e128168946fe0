"""The local services as one thing: Postgres, the embedding ranker and Airflow's four components, all on loopback."""

from __future__ import annotations

import os
import secrets as random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
from sqlalchemy import make_url

from llmser_tasks.core import environment as settings
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.private import close_to_strangers
from llmser_tasks.postgres import embedded
from llmser_tasks.services import airflow_api, airflow_settings, processes, secret_store, state
from llmser_tasks.services.airflow_settings import ADMIN, Addresses
from llmser_tasks.services.components import ComponentDied, Components, Say
from llmser_tasks.services.readiness import prepare_databases, wait_for_airflow
from llmser_tasks.services.state import AlreadyRunning, State

__all__ = ["AlreadyRunning", "ComponentDied", "Say", "Stack", "attached", "awaited", "down", "running", "starting"]

STOPPED_WITHIN_S = 120.0  # Postgres alone may take a minute
LOOK_EVERY_S = 0.5

Watch = Callable[[], None]


@dataclass(frozen=True)
class Stack:
    """Running services. The password opens the page; it is shown to the person at the terminal and nowhere else."""

    home: Path
    addresses: Addresses
    password: str
    ranker_key: str

    @property
    def url(self) -> str:
        return self.addresses.api

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.addresses.warehouse)

    @property
    def artefacts(self) -> Path:
        return settings.artefacts(self.home)

    def client(self, waiting: Callable[[], bool] | None = None) -> httpx.Client:
        """A client of its Airflow; `waiting` as for `airflow_api.connect`."""
        return airflow_api.connect(self.url, ADMIN, self.password, waiting)

    @property
    def up(self) -> bool:
        """Whether somebody still looks after these services."""
        found = state.read(self.home)
        return found is not None and found.addresses == self.addresses and found.owner.process() is not None

    def __repr__(self) -> str:
        return f"Stack({self.url}, home={self.home})"


@contextmanager
def running(home: Path, say: Say = print) -> Iterator[tuple[Stack, Watch]]:
    """Start everything, hand out where it is and a `watch` to call every second or so; stop everything at the end.

    `watch()` starts again what ended by itself.

    Raises:
        AlreadyRunning: another process keeps this home's services up.
        ComponentDied: a part does not start or keeps ending; the sentence names its log.
    """
    home = home.absolute()
    settings.artefacts(home)  # before anything starts
    home.mkdir(parents=True, exist_ok=True)
    for made in ("airflow", "artefacts", "logs"):
        close_to_strangers(home / made)
    with state.only_one(home):
        before = state.read(home)
        if before is not None and _clean_up(before):
            say("Stopped what an earlier start had left behind.")
        addresses = before.addresses if before else None
        now = State(processes.myself(), random.token_hex(16), addresses, waiting_for="Postgres")
        state.write(home, now)
        secrets = secret_store.load_or_make(home)
        with _databases(home, addresses) as (warehouse, airflow_database, server):
            addresses = Addresses(
                api_port=processes.free_port(addresses.api_port if addresses else None),
                ranker_port=processes.free_port(addresses.ranker_port if addresses else None),
                airflow_database=airflow_database,
                warehouse=warehouse,
            )
            stack = Stack(home, addresses, secrets.admin_password, secrets.ranker_key)
            variables = airflow_settings.build(home, addresses, secrets, now.marker)
            components = Components(replace(now, addresses=addresses), home, _commands(stack), variables, server, say)
            try:
                components.start("ranker")
                components.note(waiting_for="the databases to be prepared")
                say("Preparing the databases …")
                prepare_databases(components, Warehouse(warehouse), airflow_database)
                say("Starting Airflow …")
                for name in ("api-server", "dag-processor", "scheduler"):
                    components.start(name)
                wait_for_airflow(components, stack.client)
                components.start("triggerer")  # nothing waits for it
                components.note(waiting_for="")
                yield stack, components.watch
            finally:
                with _undisturbed():
                    processes.stop(components.children.values(), now.marker)


def attached(home: Path) -> Stack | None:
    """The services of this home where another process keeps them up, and they are ready."""
    found = state.read(home.absolute())
    if found is None or found.addresses is None or found.waiting_for or found.owner.process() is None:
        return None
    secrets = secret_store.load_or_make(home.absolute())
    return Stack(home.absolute(), found.addresses, secrets.admin_password, secrets.ranker_key)


def awaited(home: Path, say: Say) -> Stack | None:
    """The same, waiting for services that are just starting; None where none are up or starting.

    Raises:
        StorageError: they ended before they were ready.
    """
    home = home.absolute()
    told = None
    while True:
        if (here := attached(home)) is not None:
            return here
        if (waiting_for := starting(home)) is None:
            if told is None:
                return None
            raise StorageError(f"The services of {home} ended before they were ready; their own terminal says why.")
        if waiting_for != told:
            say(f"The services of {home} are starting: waiting for {waiting_for} …")
            told = waiting_for
        time.sleep(LOOK_EVERY_S)


def starting(home: Path) -> str | None:
    """What services that are just starting still wait for; None where none do."""
    found = state.read(home.absolute())
    if found is not None and found.owner.process() is not None:
        return found.waiting_for or None
    return "Postgres" if state.being_started(home.absolute()) else None


def down(home: Path) -> bool:
    """Stop this home's services, whoever started them; False where nothing ran."""
    found = state.read(home.absolute())
    if found is None:
        return embedded.stop(home)
    owner = found.owner.process()
    if owner is not None:
        owner.terminate()
        try:
            owner.wait(timeout=STOPPED_WITHIN_S)
        except psutil.TimeoutExpired:
            owner.kill()
            owner.wait(timeout=5)
    left = _clean_up(found)
    return embedded.stop(home) or left or owner is not None


def _commands(stack: Stack) -> dict[str, list[str]]:
    """What Python runs for each component. Log servers are left out: they would listen on every interface."""
    embeddings = str(stack.artefacts / "embeddings")  # shared with the reliability score: a title is embedded once
    bound = "llmser_tasks.services.bound"
    return {
        "ranker": ["llmser_tasks.ranker.server", "--port", str(stack.addresses.ranker_port), "--cache", embeddings],
        "migrate": ["airflow", "db", "migrate"],
        "api-server": [bound, "airflow", "api-server"],
        "scheduler": ["llmser_tasks.services.preloaded", "scheduler", "--skip-serve-logs"],
        "dag-processor": [bound, "airflow", "dag-processor"],
        "triggerer": [bound, "airflow", "triggerer", "--skip-serve-logs"],
    }


def _clean_up(before: State) -> bool:
    """End what a killed owner left behind; True where there was something."""
    left = processes.marked(before.marker)
    processes.stop(before.children, before.marker)
    return bool(left)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until the first one's work is done."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _databases(home: Path, before: Addresses | None) -> Iterator[tuple[str, str, embedded.Server | None]]:
    """URLs of the warehouse and of Airflow's own database: those of the environment, else on the embedded server.

    That keeps its port where it can: Airflow knows the warehouse's tables by their address.
    """
    warehouse = os.environ.get("LLMSER_DATABASE_URL")
    airflow = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    if warehouse and airflow:
        yield warehouse, airflow, None
        return
    port = make_url(before.warehouse).port if before else None
    server = embedded.start(home, processes.free_port(port))
    try:
        yield warehouse or server.url, airflow or server.airflow_url, server
    finally:
        with _undisturbed():
            server.stop()
