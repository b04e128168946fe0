"""The local services as one thing: Postgres, the embedding ranker and Airflow's four components, all on loopback."""

from __future__ import annotations

import os
import secrets as random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
from sqlalchemy import create_engine, make_url, text

from llmser_tasks import settings
from llmser_tasks.errors import LlmserError, StorageError
from llmser_tasks.private import close_to_strangers
from llmser_tasks.services import airflow_api, environment, processes, secret_store, state
from llmser_tasks.services.environment import ADMIN, Addresses
from llmser_tasks.services.processes import Child
from llmser_tasks.services.state import AlreadyRunning, State
from llmser_tasks.warehouse import embedded
from llmser_tasks.warehouse.migrations import migrate

__all__ = ["AlreadyRunning", "ComponentDied", "Stack", "attached", "down", "running"]

READY_WITHIN_S = 300.0
RESTARTS = 3

Say = Callable[[str], None]
Watch = Callable[[], None]


class ComponentDied(LlmserError):
    """A component ended by itself more often than it is started again."""


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
    def artefacts(self) -> Path:
        return settings.artefacts(self.home)

    def client(self) -> httpx.Client:
        return airflow_api.connect(self.url, ADMIN, self.password)

    def __repr__(self) -> str:
        return f"Stack({self.url}, home={self.home})"


@contextmanager
def running(home: Path, say: Say = print) -> Iterator[tuple[Stack, Watch]]:
    """Start everything, hand out where it is and a `watch` to call every second or so; stop everything at the end.

    `watch()` starts a component that ended by itself again.

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
        secrets = secret_store.load_or_make(home)
        with _databases(home, before) as (warehouse, airflow_database):
            addresses = Addresses(
                api_port=processes.free_port(before.addresses.api_port if before else None),
                ranker_port=processes.free_port(before.addresses.ranker_port if before else None),
                airflow_database=airflow_database,
                warehouse=warehouse,
            )
            stack = Stack(home, addresses, secrets.admin_password, secrets.ranker_key)
            components = _Components(stack, environment.build(home, addresses, secrets, marker := random.token_hex(16)))
            try:
                components.start("ranker")
                say("Preparing the databases …")
                _migrate(components)
                say("Starting Airflow …")
                for name in ("api-server", "dag-processor", "scheduler"):
                    components.start(name)
                _wait_until_ready(stack, components.watch)
                components.start("triggerer")  # nothing waits for it
                yield stack, components.watch
            finally:
                with _undisturbed():
                    processes.stop(components.children.values(), marker)


def attached(home: Path) -> Stack | None:
    """The services of this home where another process keeps them up."""
    found = state.read(home.absolute())
    if found is None or found.owner.process() is None:
        return None
    secrets = secret_store.load_or_make(home.absolute())
    return Stack(home.absolute(), found.addresses, secrets.admin_password, secrets.ranker_key)


def down(home: Path) -> bool:
    """Stop this home's services, whoever started them; False where nothing ran."""
    found = state.read(home.absolute())
    if found is None:
        return embedded.stop(home)
    owner = found.owner.process()
    if owner is not None:
        owner.terminate()
        try:
            owner.wait(timeout=30)
        except psutil.TimeoutExpired:
            owner.kill()
            owner.wait(timeout=5)
    left = _clean_up(found)
    return embedded.stop(home) or left or owner is not None


class _Components:
    """Airflow's components and the ranker, as they run now."""

    def __init__(self, stack: Stack, variables: Mapping[str, str]) -> None:
        self.stack = stack
        self.variables = variables
        self.children: dict[str, Child] = {}
        self.deaths: dict[str, int] = {}

    def start(self, name: str) -> Child:
        command = [sys.executable, "-m", *_command(name, self.stack)]
        self.children[name] = processes.spawn(name, command, self.variables, self.log(name))
        marker = self.variables[processes.MARKER]
        state.write(
            self.stack.home,
            State(processes.myself(), marker, self.stack.addresses, tuple(self.children.values())),
        )
        return self.children[name]

    def log(self, name: str) -> Path:
        return self.stack.home / "logs" / f"{name}.log"

    def watch(self) -> None:
        for name, child in list(self.children.items()):
            if child.process() is None:
                self.deaths[name] = self.deaths.get(name, 0) + 1
                if self.deaths[name] > RESTARTS:
                    raise ComponentDied(f"The {name} keeps ending by itself; see {self.log(name)}.")
                self.start(name)


def _command(name: str, stack: Stack) -> list[str]:
    embeddings = str(stack.artefacts / "embeddings")  # shared with the reliability score: a title is embedded once
    return {
        "ranker": ["llmser_tasks.llm.ranker", "--port", str(stack.addresses.ranker_port), "--cache", embeddings],
        "migrate": ["airflow", "db", "migrate"],
        "api-server": ["airflow", "api-server"],
        "scheduler": ["llmser_tasks.services.preloaded", "scheduler", "--skip-serve-logs"],
        "dag-processor": ["airflow", "dag-processor"],
        "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],  # log servers would listen on every interface
    }[name]


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
def _databases(home: Path, before: State | None) -> Iterator[tuple[str, str]]:
    """URLs of the warehouse and of Airflow's own database: those of the environment, else on the embedded server.

    That keeps its port where it can: Airflow knows the warehouse's tables by their address.
    """
    warehouse = os.environ.get("LLMSER_DATABASE_URL")
    airflow = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    if warehouse and airflow:
        yield warehouse, airflow
        return
    port = make_url(before.addresses.warehouse).port if before else None
    server = embedded.start(home, processes.free_port(port))
    try:
        yield warehouse or server.url, airflow or server.airflow_url
    finally:
        with _undisturbed():
            server.stop()


def _migrate(components: _Components) -> None:
    """Bring both databases up to date; a comment on Airflow's notes its version, because it takes 10 s to find that."""
    addresses = components.stack.addresses
    engine = create_engine(addresses.airflow_database)
    name = make_url(addresses.airflow_database).database
    wanted = f"migrated by apache-airflow {version('apache-airflow')}"
    find = text("select shobj_description(oid, 'pg_database') from pg_database where datname = :name")
    with engine.connect() as connection:
        noted = connection.scalar(find, {"name": name})
    child = None if noted == wanted else components.start("migrate")
    migrate(addresses.warehouse)
    if child is not None:
        if child.wait() != 0:
            raise ComponentDied(f"Airflow's database cannot be prepared; see {components.log('migrate')}.")
        del components.children["migrate"]
        with engine.begin() as connection:
            quoted = engine.dialect.identifier_preparer.quote(name or "")
            connection.execute(text(f"comment on database {quoted} is '{wanted}'"))
    engine.dispose()


def _wait_until_ready(stack: Stack, watch: Watch) -> None:
    """Until the API answers, the pools exist, the DAG is read and the scheduler beats."""
    since = datetime.now(UTC)
    deadline = time.monotonic() + READY_WITHIN_S
    pools = False
    with stack.client() as client:
        while time.monotonic() < deadline:
            watch()
            try:
                if not pools:
                    airflow_api.ensure_pool(client, "gpu", environment.gpu_slots(), "Trainings at once")
                    airflow_api.ensure_pool(client, "llm", environment.LLM_SLOTS, "Batches of LLM questions at once")
                    pools = True
                beat = airflow_api.health(client)["scheduler"]["latest_scheduler_heartbeat"]
                if beat and datetime.fromisoformat(beat) > since and airflow_api.dag_is_ready(client):
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.3)
    raise StorageError(f"Airflow is not ready after {READY_WITHIN_S:.0f} s; see {stack.home / 'logs'}.")
