"""What the command line calls: bring the services up, take them down, run the demonstration, start a run."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from httpx import Client, TransportError
from rich.console import Console

from llmser_tasks.core.errors import InputError, LlmserError, StorageError
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, results, stack
from llmser_tasks.services.airflow_settings import ADMIN
from llmser_tasks.services.follow import follow
from llmser_tasks.services.stack import Stack, Watch
from llmser_tasks.services.terminal import Terminal
from llmser_tasks.warehouse.tables import runs

DEMO = "sample-amazon"  # the preset; the run ids begin with "demo"
DEMO_USERS = 1500
DEMO_TRAINING = {"epochs": 30}  # a first result within minutes; the full budget gains a little more


class RunFailed(LlmserError):
    """A run that was waited for did not succeed."""


class _Stopped(BaseException):
    """Somebody pressed Ctrl-C or asked the process to end."""


def up(home: Path, console: Console | None = None) -> None:
    """Start the services and keep them up until Ctrl-C or SIGTERM.

    Raises:
        AlreadyRunning: they are up; the sentence says where.
    """
    console = console or Terminal()
    with _until_stopped(console), stack.running(home, _say(console)) as (here, watch):
        _show_login(here, console)
        console.print("Ctrl-C stops everything.")
        _stay(watch)


def down(home: Path) -> bool:
    """Stop the services of this home; False where none ran."""
    return stack.down(home)


def trigger(
    home: Path, values: Mapping[str, Any], wait: bool = False, console: Console | None = None, run_id: str | None = None
) -> str:
    """Start a run on the services that are up; returns its id.

    Raises:
        InputError: the services are down, or a value is refused.
        RunFailed: it was waited for and failed.
    """
    console = console or Terminal(stderr=True)
    dumps = {name: str(Path(values[name]).absolute()) for name in ("reviews", "items") if values.get(name)}
    with _airflow(home, console) as up:
        if up is None:
            raise InputError(f"The services of {home} are not up; start them with `llmser up` in another terminal.")
        here, client = up
        started = airflow_api.trigger(client, {**values, **dumps}, run_id)  # the services may run in another folder
        if wait:
            follow_to_end(here, client, started, console)
    return started


def follow_to_end(here: Stack, client: Client, run_id: str, console: Console) -> None:
    """Show a run until it has succeeded.

    Raises:
        RunFailed: it has not.
        StorageError: the services were stopped meanwhile.
    """
    if not follow(client, run_id, here.warehouse, console, _while_up(here)):
        raise _failure(here, run_id)


@contextmanager
def airflow_of(home: Path, run_id: str, console: Console) -> Iterator[tuple[Stack, Client] | None]:
    """The services that are up and a client of their Airflow; None where they are not, or do not know the run.

    Raises:
        StorageError: as for `_airflow`.
    """
    with _airflow(home, console) as up:
        yield up if up and airflow_api.knows(up[1], run_id) else None


@contextmanager
def _airflow(home: Path, console: Console) -> Iterator[tuple[Stack, Client] | None]:
    """The services and a client of their Airflow, once they are ready if they are just starting; None where none are.

    The client waits for an API server that `llmser up` is just starting again.

    Raises:
        StorageError: Airflow does not answer, also within the block, and nobody starts it again.
    """
    here = stack.awaited(home, _say(console))
    if here is None:
        yield None
        return
    told = False

    def waiting() -> bool:
        nonlocal told
        if here.up and not told:
            told = True
            console.print(f"Waiting for Airflow at {here.url} …", highlight=False, soft_wrap=True)
        return here.up

    with _answering(here), here.client(waiting) as client:
        yield here, client


@contextmanager
def _answering(here: Stack) -> Iterator[None]:
    """Say in one sentence that Airflow went away while we were asking it."""
    try:
        yield
    except TransportError as error:
        why = type(error).__name__ if here.up else "its services were stopped"
        raise StorageError(
            f"Airflow at {here.url} does not answer ({why}); look whether it has done what it was asked for (its page, "
            "or `llmser show runs`), and try again if not."
        ) from None


def _while_up(here: Stack) -> Watch:
    """For those who follow a run on services that another process keeps up."""

    def watch() -> None:
        if not here.up:
            raise StorageError(
                f"The services of {here.home} were stopped while the run went on; `llmser up` takes it up again."
            )

    return watch


def demo(home: Path, wait: bool = True, console: Console | None = None) -> None:
    """The whole pipeline on sample dumps, with its figures at the end; the page stays up until Ctrl-C.

    Args:
        wait: without it, everything is stopped once the figures are printed.

    Raises:
        RunFailed: the run did not succeed.
    """
    console = console or Terminal()
    with _until_stopped(console):
        already = stack.awaited(home, _say(console))
        values = _write_sample(home, console)
        with _lent(already) if already else stack.running(home, _say(console)) as (here, watch):
            _show_login(here, console)
            with _answering(here), here.client() as client:
                run_id = _demo_run(client, values)
                console.print(f"Run {run_id}: {_page(here, run_id)}", highlight=False, soft_wrap=True)
                succeeded = follow(client, run_id, here.warehouse, console, watch)
            if not succeeded:
                raise _failure(here, run_id)
            results.show(here.warehouse, run_id, console)
            report = results.save_report(here.warehouse, run_id, here.home)
            console.print(f"Report: {report}", highlight=False, soft_wrap=True)
            _show_login(here, console)
            if wait and not already:
                console.print("Ctrl-C stops everything.")
                _stay(watch)


@contextmanager
def _lent(here: Stack) -> Iterator[tuple[Stack, Watch]]:
    """Services that another process looks after."""
    yield here, _while_up(here)


def _demo_run(client: Any, values: Mapping[str, Any]) -> str:
    """A new run, or the unfinished one that an earlier demonstration left."""
    for earlier in airflow_api.runs(client, ("running", "queued")):
        if str(earlier["dag_run_id"]).startswith("demo__"):
            return str(earlier["dag_run_id"])
    return airflow_api.trigger(client, values, f"demo__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}")


def _write_sample(home: Path, console: Console) -> dict[str, Any]:
    """Write the sample dumps (the same bytes every time); returns the run's settings."""
    files = write_sample(home.absolute() / "sample", users=DEMO_USERS)
    console.print(f"Sample: {DEMO_USERS:,} SYNTHETIC users in {files.reviews.parent}", highlight=False, soft_wrap=True)
    return {"dataset": DEMO, "reviews": str(files.reviews), "items": str(files.items), **DEMO_TRAINING}


def _failure(here: Stack, run_id: str) -> RunFailed:
    """Why it failed, in the words of the task that failed."""
    try:
        why = runs.load(here.warehouse, run_id).message or "It failed."
    except InputError:  # it failed before it was noted
        why = "It failed at its start."
    return RunFailed(f"Run {run_id}: {why} Its tasks and their logs: {_page(here, run_id)}")


def _page(here: Stack, run_id: str) -> str:
    return f"{here.url}/dags/{airflow_api.DAG}/runs/{run_id}"


def _show_login(here: Stack, console: Console) -> None:
    console.print(f"Airflow: {here.url}  user: {ADMIN}  password: {here.password}", highlight=False, soft_wrap=True)


def _say(console: Console) -> stack.Say:
    began = time.monotonic()
    return lambda line: console.print(
        f"{time.monotonic() - began:4.0f} s  {line}", highlight=False, markup=False, soft_wrap=True
    )


def _stay(watch: Watch) -> None:
    while True:
        watch()
        time.sleep(1)


@contextmanager
def _until_stopped(console: Console) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the block; while it winds up, further ones are ignored."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        console.print("Stopping …")
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    except _Stopped:
        console.print("Stopped.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
